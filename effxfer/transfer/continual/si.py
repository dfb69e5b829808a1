"""Pull weights towards where they were, by how much their moves lowered the loss (synaptic intelligence).

Zenke et al., 2017, https://arxiv.org/abs/1703.04200.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.fisher import ANCHOR, IMPORTANCE, anchor, padded_importances, weighted_drift
from effxfer.transfer.continual.learner import StreamLearner

PATH, BEFORE, START = "path_", "before_", "start/"


class Si(Continual):
    """Fine-tune every weight, and pull each one towards its value after the task before, by its importance.

    The importance of a weight is what its moves took off the loss during a task, over the square of its way. No example
    of earlier tasks is trained on.

    Attributes:
        weight: Of the pull; 0 is plain fine-tuning.
        damping: Added to the squared way, so that weights that hardly moved are not all-important; above 0.
    """

    weight: float = Field(default=1.0, ge=0)
    damping: float = Field(default=0.1, gt=0)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Copy the weights, and begin to add up what moves take off the loss."""
        super().prepare(net, tasks)
        learner = self.begin(net, tasks)
        anchor(learner)
        for name, weight in net.named_parameters():
            if weight.requires_grad:
                # Buffers: checkpoints hold them.
                learner.register_buffer(_buffer(PATH, name), torch.zeros_like(weight))
                learner.register_buffer(_buffer(BEFORE, name), weight.detach().clone())
        learner.statistics |= {START + name: weight.detach().clone() for name, weight in net.named_parameters()}
        return learner

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy, and the weighted squared distance from the anchors."""
        return {**super().loss(learner, batch, progress), "pull": self.weight * weighted_drift(learner)}

    @torch.no_grad()
    def before_step(self, learner: Any) -> None:
        """Note the gradients of the task's own loss, without those of the pull."""
        learner.gradients = dict[str, Tensor]()
        for name, weight in learner.net.named_parameters():
            if weight.grad is not None:
                pull = 0.0
                if IMPORTANCE + name in learner.statistics:
                    way = weight - learner.statistics[ANCHOR + name]
                    pull = 2 * self.weight * learner.statistics[IMPORTANCE + name] * way
                learner.gradients[name] = weight.grad - pull

    @torch.no_grad()
    def after_step(self, learner: Any, steps: int, progress: float) -> None:
        """Add what each move took off the loss."""
        for name, weight in learner.net.named_parameters():
            if (gradient := learner.gradients.get(name)) is not None:
                before = getattr(learner, _buffer(BEFORE, name))
                getattr(learner, _buffer(PATH, name)).sub_(gradient * (weight - before))
                before.copy_(weight)

    @torch.no_grad()
    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Add the importances of the task to the earlier ones."""
        before = padded_importances(learner.net, learner.memory.section(IMPORTANCE)) if learner.memory else {}
        importances = dict[str, Tensor]()
        for name, weight in learner.net.named_parameters():
            path = getattr(learner, _buffer(PATH, name), None)
            if path is not None:
                way = weight - learner.statistics[START + name]
                present = (path / (way.square() + self.damping)).clamp_min(0)
                importances[IMPORTANCE + name] = present + before.get(name, 0.0)
        return self.keep_memory("si", learner, tasks, importances)


def _buffer(kind: str, name: str) -> str:
    return kind + name.replace(".", "/")
