"""Pull weights towards where they were, by how much earlier tasks need them (elastic weight consolidation).

Kirkpatrick et al., 2016, https://arxiv.org/abs/1612.00796; with one running sum of importances: Schwarz et al., 2018,
https://arxiv.org/abs/1805.06370.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import Tensor

from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.fisher import (
    IMPORTANCE,
    Labels,
    anchor,
    fisher_diagonal,
    padded_importances,
    weighted_drift,
)
from effxfer.transfer.continual.learner import StreamLearner


class Ewc(Continual):
    """Fine-tune every weight, and pull each one towards its value after the task before, by its importance.

    No example of earlier tasks is trained on. Where classes come with time and compete with each other, the published
    figures are hardly above plain fine-tuning.

    Attributes:
        weight: Of the pull; 0 is plain fine-tuning.
        gamma: Share of earlier importances that stays when a task is added, in [0, 1].
        samples: Examples of a task that importances are estimated from.
        fisher: Labels of their log-likelihood: `sampled` from the network's answer, or the `given` ones.
    """

    weight: float = Field(default=1000.0, ge=0)  # chosen: papers tune it per stream, from 10 to 10,000
    gamma: float = Field(default=1.0, ge=0, le=1)
    samples: int = Field(default=500, ge=1)  # chosen: seconds for small networks
    fisher: Labels = "sampled"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Copy the weights, and take their importances from the memory."""
        super().prepare(net, tasks)
        learner = self.begin(net, tasks)
        anchor(learner)
        return learner

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy, and half of the weighted squared distance from the anchors."""
        return {**super().loss(learner, batch, progress), "pull": self.weight / 2 * weighted_drift(learner)}

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Add the importances for the task to the share of the earlier ones that stays."""
        present = fisher_diagonal(learner, tasks[-1], self.samples, self.fisher)
        if learner.memory:
            before = padded_importances(learner.net, learner.memory.section(IMPORTANCE))
            present = {name: each + self.gamma * before.get(name, 0.0) for name, each in present.items()}
        importances = {IMPORTANCE + name: each for name, each in present.items()}
        return self.keep_memory("ewc", learner, tasks, importances)
