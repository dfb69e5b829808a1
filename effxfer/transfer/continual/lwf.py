"""Distil the network that came, on the new task's examples (learning without forgetting; Li and Hoiem, 2016).

https://arxiv.org/abs/1606.09282.

Shape legend: B examples, C columns of the head.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.learner import StreamLearner


class LwF(Continual):
    """Fine-tune every weight, while the columns of earlier tasks answer as they did before.

    No example of earlier tasks is trained on. Where classes come with time and compete with each other, the published
    figures are hardly above plain fine-tuning.

    Attributes:
        weight: Of the distillation; 0 is plain fine-tuning.
        temperature: Of both sides' softmax.
    """

    weight: float = Field(default=1.0, ge=0)  # the paper's
    temperature: float = Field(default=2.0, gt=0)  # the paper's

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Copy the network as it came."""
        super().prepare(net, tasks)
        return self.begin(net, tasks, copies=True)

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy of the labels, and the distance to the answers of the network that came."""
        inputs, labels = batch
        raw = learner(inputs)
        terms = {"label": self.label_loss(learner, raw, labels)}
        if not learner.taught or not self.weight:
            return terms
        with torch.no_grad():
            before = learner.source(inputs)
        parts = earlier_columns(learner)
        losses = [divergence(raw[:, part], before[:, part], self.temperature) for part in parts]
        return {**terms, "before": self.weight * torch.stack(losses).sum()}

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Keep the names of the tasks, and what is held out of them."""
        return self.keep_memory("lwf", learner, tasks, {})


def earlier_columns(learner: StreamLearner) -> list[Tensor]:
    """Return the columns that earlier tasks taught: all together, or those of each task where tasks are known."""
    taught = torch.arange(learner.taught)
    if learner.groups is None:
        return [taught]
    present = learner.groups[taught]
    return [taught[present == number] for number in present.unique().tolist()]


def divergence(raw: Tensor, before: Tensor, temperature: float) -> Tensor:
    """Return how far logits `(B, C)` are from those before: Kullback-Leibler, in nats times the squared temperature."""
    target, present = (before / temperature).softmax(1), (raw / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(present, target, reduction="batchmean")
