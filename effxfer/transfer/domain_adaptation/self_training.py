"""Self-training by class: the surest answers on the target become labels, more in each round (Zou et al., 2018).

https://arxiv.org/abs/1810.07911 (CBST). Without a share for each class, the surest answers are often all of one class,
which then takes everything.

Shape legend: M examples of the target, B examples of each domain, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.domain_batches import (
    DomainBatch,
    Statistics,
    domain_features,
    draw_domains,
    require_target,
)
from effxfer.transfer.regularized.reference_model import ModelWrapper


class SelfTraining(Strategy):
    """Fine-tune all weights on a source domain and on the surest answers for a target, which rounds choose anew.

    Examples of the target come from `data.target` or `data.unlabelled`; an epoch is a pass over the labelled examples.
    The first round has no pseudo-labels, the last one has those of a share of the target.

    Attributes:
        weight: Weight of the loss on pseudo-labels; 0 is training on the source, but for BatchNorm.
        rounds: Rounds of equal length; 1 is training on the source.
        share: Share of the target that has a pseudo-label in the last round, in (0, 1]; rounds before have fewer.
        per_class: Choose the surest answers of each class, as many as its share of the source's labels. It assumes that
            classes are about as frequent in both domains. Off: the surest answers, whatever their class.
        statistics: BatchNorm statistics, as for `dann`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    adapts_domain: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0)
    rounds: int = Field(default=5, ge=1, le=100)
    # The paper goes from 20 % to 50 %.
    share: float = Field(default=0.5, gt=0, le=1)
    per_class: bool = True
    statistics: Statistics = "joint"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Put pseudo-labels beside the network, none at first."""
        super().prepare(net, tasks)
        return PseudoLabelled(net, tasks[-1])

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of both domains, see `draw_domains`."""
        return draw_domains(tasks, self.batch, self.augment, device, self.balance)

    def begin_epoch(self, learner: "PseudoLabelled", progress: float) -> None:
        """Choose pseudo-labels anew, where a round begins."""
        number = int(progress * self.rounds + 1e-9)
        # The labels are part of the checkpoint: a resumed epoch finds those of its round.
        if number != int(learner.round):
            learner.relabel(number, self.share * number / max(1, self.rounds - 1), per_class=self.per_class)
        super().begin_epoch(learner, progress)

    def loss(self, learner: "PseudoLabelled", batch: DomainBatch, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the labels, and that of the pseudo-labels."""
        inputs, labels, target_inputs, _, rows = batch
        net, pseudo = learner.net, learner.labels[rows]
        source, target = domain_features(net, inputs, target_inputs, self.statistics)
        label = F.cross_entropy(net.head(source), labels, label_smoothing=self.label_smoothing)
        each = F.cross_entropy(net.head(target).float(), pseudo, ignore_index=-1, reduction="none")
        # Over all examples of the target and not only the chosen ones: the loss grows with their share.
        return {"label": label, "pseudo": self.weight * each.mean()}


class PseudoLabelled(ModelWrapper):
    """A network with pseudo-labels of a target.

    Attributes:
        labels: Of each example, int64 `(M,)`; -1 where there is none.
        round: Number of the round that chose them, an int64 scalar.
    """

    labels: Tensor
    round: Tensor

    def __init__(self, net: Net, task: Task) -> None:
        super().__init__(net)
        self._target = (require_target(task),)
        counts = torch.tensor(task.train.labels).bincount(minlength=len(task.classes))
        self._frequencies = (counts / counts.sum()).tolist()
        device = next(net.parameters()).device
        self.register_buffer("labels", torch.full((len(self._target[0]),), -1, device=device))
        self.register_buffer("round", torch.zeros((), dtype=torch.int64, device=device))

    def relabel(self, number: int, share: float, *, per_class: bool) -> None:
        """Choose the labels of a round."""
        device = Device(torch=self.labels.device)
        logits = predict(self.net, self._target[0].rows, self.net.input, device)
        frequencies = self._frequencies if per_class else None
        self.labels.copy_(surest_labels(logits.softmax(1), share, frequencies))
        self.round.fill_(number)


def surest_labels(answers: Tensor, share: float, frequencies: Sequence[float] | None) -> Tensor:
    """Return pseudo-labels, int64 `(M,)`, -1 where there is none.

    Args:
        answers: Probabilities `(M, C)`.
        share: Share of the examples that get one.
        frequencies: Share of each class among them, `C` numbers of sum 1; None takes the surest, whatever their class.

    An example that two classes choose belongs to the one that is more probable for it.
    """
    labels = torch.full((len(answers),), -1)
    if frequencies is None:
        certainty, answer = answers.max(1)
        chosen = certainty.argsort(descending=True, stable=True)[: round(share * len(answers))]
        labels[chosen] = answer[chosen]
        return labels
    best = torch.zeros(len(answers))
    for number, frequency in enumerate(frequencies):
        certainty = answers[:, number]
        chosen = certainty.argsort(descending=True, stable=True)[: round(share * frequency * len(answers))]
        chosen = chosen[certainty[chosen] > best[chosen]]
        labels[chosen], best[chosen] = number, certainty[chosen]
    return labels
