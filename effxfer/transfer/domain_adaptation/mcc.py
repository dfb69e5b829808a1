"""MCC: minimise the confusion between classes on the target domain (Jin et al., 2020, https://arxiv.org/abs/1912.03699).

Shape legend: B examples of each domain, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.domain_batches import DomainBatch, Statistics, domain_features, draw_domains


class Mcc(Strategy):
    """Fine-tune all weights on a source domain, and keep answers on a target domain from mixing up classes.

    Examples of the target come from `data.target` or `data.unlabelled`; an epoch is a pass over the labelled examples.

    Attributes:
        weight: Weight of the confusion; 0 is training on the source, except that BatchNorm sees both domains.
        temperature: Temperature of the answers; the paper's is 2.5.
        statistics: BatchNorm statistics, as for `dann`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    compares_examples: ClassVar[bool] = True
    adapts_domain: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=2.5, gt=0)
    statistics: Statistics = "joint"

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of both domains, see `draw_domains`."""
        return draw_domains(tasks, self.batch, self.augment, device, self.balance)

    def loss(self, learner: Net, batch: DomainBatch, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the labels, and the confusion on the target."""
        inputs, labels, target_inputs, *_ = batch
        source, target = domain_features(learner, inputs, target_inputs, self.statistics)
        label = F.cross_entropy(learner.head(source), labels, label_smoothing=self.label_smoothing)
        confusion = class_confusion(learner.head(target).float(), self.temperature)
        return {"label": label, "confusion": self.weight * confusion}


def class_confusion(logits: Tensor, temperature: float) -> Tensor:
    """Return the mean confusion of a class with others, of logits `(B, C)`: 0 if every answer is one class alone.

    Examples that the network is sure of weigh more.
    """
    answers = (logits / temperature).softmax(1)
    entropy = -(answers.detach() * answers.detach().clamp_min(1e-9).log()).sum(1)
    certainty = 1 + (-entropy).exp()
    weights = len(certainty) * certainty / certainty.sum()
    confusion = (answers * weights[:, None]).mT @ answers
    # Normalised by row: a frequent class would count more.
    confusion = confusion / confusion.sum(1, keepdim=True).clamp_min(1e-9)
    return (confusion.sum() - confusion.trace()) / confusion.shape[1]
