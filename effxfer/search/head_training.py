"""Train and evaluate one head on cached features: the second training loop besides `train.fit`.

A step of a head takes less time than the bookkeeping of `train.fit` and `torch.optim`. Measured on one core with torch
2.14, CPU time of 60 heads of 60 epochs on digits: 16.1 s with this loop; 19.1 s with `torch.optim.AdamW(fused=True)`,
and 1.7 s for the import of torch._dynamo in every worker, together 1.29x; 24.3 s with `foreach=True`; 23.1 s with
`torch.dropout`. `torch.optim.SGD` has no decoupled weight decay either.

Shape legend: N examples, D features, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effxfer.data.batches.collate import label_tensor
from effxfer.net.heads.build import build_head
from effxfer.net.heads.pools import pool_of
from effxfer.net.heads.spec import HeadSpec
from effxfer.search.features import Features
from effxfer.search.flat_optim import OPTIMIZERS, replace_dropout
from effxfer.search.inputs import CHUNK, Layers, Rows, Vectors, gather
from effxfer.search.judging.metrics import measure
from effxfer.search.space import Candidate, SearchSettings, Taps
from effxfer.train.losses import label_loss
from effxfer.train.optim.gradients import DivergedError

Report = Callable[[int, float], None]
# Chosen: 256 of 300 examples would be one step an epoch. Below 16, a step is mostly overhead.
MIN_BATCH, MIN_STEPS = 16, 8


def rungs(epochs: int) -> list[int]:
    """List the epochs after which a trial is judged: a ninth, a third, all."""
    # Thirds, as the reduction factor of 3 in `make_pruner`.
    return sorted({max(1, epochs // 9), max(1, epochs // 3), epochs})


def judge(
    features: Features,
    candidate: Candidate,
    settings: SearchSettings,
    *,
    folds: list[tuple[Rows, Rows]],
    penalty: float,
    seed: int,
    report: Report,
    check: Callable[[], None] = lambda: None,
) -> float:
    """Train a head on all but one part of the training split, judge it on the part, and average over the folds.

    Early rungs use few folds, the last one all: a trial that is stopped early costs little.

    Args:
        features: Only its training split is used.
        candidate: The head.
        settings: Epochs, batch and metric.
        folds: Result of `fold_rows`.
        penalty: Penalty for size and latency, subtracted from the metric.
        seed: Random seed of initialisation, shuffling and dropout.
        report: Called with epoch and objective at every rung; may raise to stop the trial.
        check: Called after every epoch of every fold; may raise to stop the trial.

    Returns:
        The metric, see `measure`, minus the penalty.

    Raises:
        DivergedError: If the loss becomes infinite or not a number.
    """
    runs = [Training(features, candidate, settings, rows=train, seed=seed + k) for k, (train, _) in enumerate(folds)]
    value, marks = 0.0, rungs(settings.epochs)
    for k, epoch in enumerate(marks, 1):
        scores = []
        for run, (_, rows) in islice(zip(runs, folds, strict=True), math.ceil(len(runs) * k / len(marks))):
            run.advance(epoch, check)
            scores.append(run.score("train", rows, settings.metric))
        value = sum(scores) / len(scores) - penalty
        report(epoch, value)
    return value


def size_penalty(features: Features, candidate: Candidate, settings: SearchSettings, reference: int) -> float:
    """Penalty on the metric: `size_penalty` for each factor of ten over the reference; negative for smaller heads."""
    parameters = features.parameters(candidate.spec, candidate.taps)
    # The logarithm: a head of 1,000 parameters more matters beside 650, not beside a million.
    return settings.size_penalty * math.log10(parameters / reference)


class Training:
    """The training of one head: linear warm-up over a twentieth of the steps, then cosine to zero."""

    def __init__(
        self, features: Features, candidate: Candidate, settings: SearchSettings, *, rows: Rows | None, seed: int
    ) -> None:
        self.features, self.spec = features, candidate.spec
        self.lr, self.epochs = candidate.lr, settings.epochs
        rows = features.rows if rows is None else rows
        kind = Layers if self.spec.pools else Vectors
        self.inputs = kind(features.inputs("train", self.spec), candidate.taps, self.spec, rows)
        self.y = label_tensor(features.labels[rows], features.output)
        self.epoch, n = 0, len(self.inputs)
        self.batch = min(settings.batch, max(MIN_BATCH, n // MIN_STEPS), n)
        # Initialisation draws from torch's global generator, which the caller's own draws must not see.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # The inputs are standardised once, not in every step.
            inner = self.spec.model_copy(update={"standardize": False})
            self.head = build_head(inner, features.channels(candidate.taps, self.spec), features.output.width)
            self.inputs.start(self.head)
        # The fastest of numpy's generators, by its own documentation.
        self.random = np.random.Generator(np.random.SFC64(seed))
        replace_dropout(self.head, self.random)
        make = OPTIMIZERS[candidate.optimizer]
        self.optimizer = make(self.head.parameters(), weight_decay=candidate.weight_decay)

    def advance(self, epoch: int, check: Callable[[], None] = lambda: None) -> None:
        """Train up to the end of `epoch`; `check` is called after each one and may raise.

        Raises:
            DivergedError: If the loss becomes infinite or not a number.
        """
        self.head.train()
        while self.epoch < epoch:
            self._one_epoch()
            self.epoch += 1
            check()

    def score(self, split: Literal["train", "val"], rows: Rows | None, metric: str | None) -> float:
        """Judge the head on some examples of a split; None takes all that have a label."""
        self.head.eval()
        training = split == "train"
        labels = self.features.labels if training else self.features.val_labels
        if rows is None:
            rows = self.features.rows if training else self.features.val_rows
        with torch.inference_mode():
            pieces = self.inputs.evaluation_batches(self.head, self.features.inputs(split, self.spec), rows)
            raw = torch.cat([self.head(piece) for piece in pieces]).numpy()
        return measure(self.features.output, raw, labels[rows], metric)

    def result(self) -> tuple[HeadSpec, dict[str, Tensor]]:
        """Return the head and its weights, with the standardisation merged into the weights where that is exact."""
        with torch.no_grad():
            return self.inputs.result(self.head)

    def _one_epoch(self) -> None:
        batches = len(self.y) // self.batch
        order = torch.from_numpy(self.random.permutation(len(self.y)))
        total = torch.zeros(())
        # Without a smaller last batch, whose BatchNorm would be poor; the shuffle leaves out others next time.
        for rows in order[: batches * self.batch].view(batches, self.batch):
            raw = self.head(self.inputs.batch(self.head, rows))
            loss = label_loss(self.features.output, raw, self.y.index_select(0, rows))
            loss.backward()
            self.optimizer.step(self._rate(batches * self.epochs))
            total += loss.detach()
        # Once per epoch: asking in every step would cost as much as the step.
        if not torch.isfinite(total):
            raise DivergedError(f"loss {float(total)} in epoch {self.epoch + 1} at lr {self.lr:.3g}")

    def _rate(self, steps: int) -> float:
        step = self.optimizer.steps
        # Chosen: a twentieth; Adam's second moment is estimated from few gradients at first.
        warm = min(1.0, (step + 1) / max(1, steps // 20))
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def train_head(
    features: Features, candidate: Candidate, settings: SearchSettings, seed: int
) -> tuple[HeadSpec, dict[str, Tensor]]:
    """Train a head on the whole training split; the same arguments give the same weights.

    Raises:
        DivergedError: If the loss becomes infinite or not a number.
    """
    training = Training(features, candidate, settings, rows=None, seed=seed)
    training.advance(settings.epochs)
    return training.result()


def score_head(
    features: Features, taps: Taps, spec: HeadSpec, state: Mapping[str, Tensor], metric: str | None
) -> float:
    """Judge trained weights on the validation examples that have a label, see `measure`."""
    rows, raw = features.val_rows, head_outputs(features, taps, spec, state)
    return measure(features.output, raw[rows], features.val_labels[rows], metric)


@torch.inference_mode()
def head_outputs(features: Features, taps: Taps, spec: HeadSpec, state: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """Return the outputs of trained weights on the validation split, `(M, C)`."""
    head = build_head(spec, features.channels(taps, spec), features.output.width)
    head.load_state_dict(dict(state))
    head.eval()
    pool, matrices = pool_of(head), features.inputs("val", spec)
    if pool is None:
        return head(gather(matrices, taps)).numpy()  # type: ignore[no-any-return]
    raw = []
    for start in range(0, len(features.val_labels), CHUNK):
        rows = slice(start, start + CHUNK)
        layers = [torch.from_numpy(np.array(matrices[tap][rows], dtype=np.float32)) for tap in taps]
        raw.append(head(pool(layers)))
    return torch.cat(raw).numpy()
