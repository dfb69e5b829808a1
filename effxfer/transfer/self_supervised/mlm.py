"""Masked language modelling: hide tokens of texts and guess them (BERT, https://arxiv.org/abs/1810.04805).

Masks are drawn anew in each epoch (RoBERTa, https://arxiv.org/abs/1907.11692). Going on with a pretrained encoder on
texts of one's own field, before labels are used, is Gururangan et al., 2020, https://arxiv.org/abs/2004.10964.

Shape legend: B texts, n tokens, M hidden tokens, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches, order_by_length
from effxfer.data.batches.masking import IGNORED, Masking
from effxfer.data.task import Split, Task
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.text.masked_head import masked_head
from effxfer.report import Measurement, Report
from effxfer.runtime.outputs.base import Score
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.runtime.text.tokens import Tokens
from effxfer.train.devices import Device
from effxfer.train.evaluate import evaluation_batches, evaluation_mode
from effxfer.transfer.base import Strategy

FIXED_MASKS = 0  # seed of the masks of validation and test texts: scores of all epochs and networks compare
EVALUATED = 32  # chosen: texts whose hidden tokens have logits of a vocabulary of 30,000 in about 75 MB


class MaskedLm(Strategy):
    """Hide tokens and guess them; labels are not used.

    The head is BERT's: a transform, and the token embeddings as decoder. A network without it gets one.

    Attributes:
        rate: Share of the words of a text that are hidden, above 0 and at most 0.5; at least one word is.
        keep: Share of the hidden tokens that stay as they are, in [0, 1].
        random: Share of the hidden tokens that any token replaces, in [0, 1]; the mask replaces the others.
        whole_words: Whether all tokens of a word are hidden together.
    """

    takes: ClassVar[frozenset[str]] = Strategy.takes | {MaskedToken.kind}
    inputs: ClassVar[frozenset[str]] = frozenset({"text"})
    of_images: ClassVar[bool] = False

    # All three as in BERT.
    rate: float = Field(default=0.15, gt=0, le=0.5)
    keep: float = Field(default=0.1, ge=0, le=1)
    random: float = Field(default=0.1, ge=0, le=1)
    whole_words: bool = True

    @model_validator(mode="after")
    def _uses_no_labels(self) -> "MaskedLm":
        if self.keep + self.random > 1:
            raise ValueError(f"keep + random is {self.keep + self.random:g}: they are shares of the hidden tokens")
        idle = ("augment", "balance", "label_smoothing", "multi_label")
        changed = [name for name in idle if getattr(self, name) != Strategy.model_fields[name].default]
        if changed:
            raise ValueError(f"{changed[0]} has no effect on mlm, which takes texts as they are and no labels")
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Set the head that guesses tokens, unless the network has it."""
        if masked_head(net) is None:
            apply_edit(net, "set_masked_head")
        return super().prepare(net, tasks)

    def draw(self, learner: Net, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Batches of `(ids, targets, index)`: hidden texts `(B, n)`, tokens to guess `(B, n)`, and the texts' rows."""
        rows, input, masking = tasks[-1].train.rows, learner.input, self.read_masking(learner)

        def make(index: Tensor, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
            draws = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=rng)))
            ids, targets = masking.hide(input.feed(rows[index.numpy()]), draws)
            return torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device), index.to(device)

        order = order_by_length(rows.lengths, self.batch, None)
        return lambda seed: Batches(len(rows), self.batch, make, seed, order)

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy of the hidden tokens: the mean over a text's, then over texts."""
        ids, targets, _ = batch
        hidden = targets != IGNORED
        losses = F.cross_entropy(guess(learner, ids, hidden), targets[hidden], reduction="none")
        weights = hidden / hidden.sum(1, keepdim=True).clamp_min(1) / len(ids)
        return {"masked": (losses * weights[hidden]).sum()}

    def judge(self, learner: Net, tasks: Sequence[Task], device: Device) -> float:
        """Return the accuracy at the hidden places of the validation texts, which are always the same."""
        return self.scores(learner, tasks[-1].val, device)[0].value

    def measure(self, net: Net, task: Task, device: Device) -> Report:
        """Report accuracy and perplexity at the hidden places of the validation and test texts."""
        splits = task.reported_splits.items()
        rows = [Measurement.from_score(name, s) for name, split in splits for s in self.scores(net, split, device)]
        return Report(rows=tuple(rows))

    def read_masking(self, net: Net) -> Masking:
        """Return how tokens are hidden from a network.

        Raises:
            SettingsError: If its tokenizer has no mask.
        """
        assert isinstance(net.input, Tokens)
        return Masking.of(net.input, rate=self.rate, keep=self.keep, random=self.random, whole_words=self.whole_words)

    def scores(self, net: Net, split: Split, device: Device) -> tuple[Score, ...]:
        """Measure a network at the hidden places of a split."""
        correct, losses = list[NDArray[np.bool_]](), list[NDArray[np.float64]]()
        masking, rng = self.read_masking(net), np.random.default_rng(FIXED_MASKS)
        output = net.output
        assert isinstance(output, MaskedToken)
        with evaluation_mode(net):
            for rows in evaluation_batches(split.rows, EVALUATED):
                ids, targets = masking.hide(net.input.feed(split.rows[rows]), rng)
                inputs, hidden = torch.from_numpy(ids).to(device.torch), targets != IGNORED
                raw = guess(net, inputs, torch.from_numpy(hidden).to(device.torch)).float().cpu().numpy()
                correct.append(output.correct(raw, targets[hidden]))
                losses.append(output.losses(raw, targets[hidden]))
        return output.summarize(np.concatenate(correct), np.concatenate(losses))


def guess(net: Net, ids: Tensor, places: Tensor) -> Tensor:
    """Return the logits `(M, V)` of the tokens at some places.

    Args:
        net: A network with a `MaskedHead`.
        ids: Texts `(B, n)`.
        places: M of the tokens, bool `(B, n)`; the decoder, most of the work, runs at these alone.
    """
    logits: Tensor = net.head(net.features(ids)[places])
    return logits
