"""What strategies share that solve an episode by a few gradient steps: their settings, their learner, their report.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, N = W * Q.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import Tensor

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.devices import Device
from effxfer.transfer.few_shot.episode_report import measure_adaptation
from effxfer.transfer.few_shot.episodes import Episode, freeze_prototypes
from effxfer.transfer.few_shot.episodic import Episodic
from effxfer.transfer.few_shot.inner_loop import MetaLearner, Start, Statistics, query_loss, settle_


class MetaLearning(Episodic):
    """Base of the strategies whose training steps contain steps on an episode, the inner steps.

    Attributes:
        inner_lr: Learning rate of inner steps.
        start: Where the classifier starts: at the `means` of the support features, or at weights that are `learned`,
            as in the papers, which classify episodes of `way` classes only.
        statistics: What BatchNorm normalises episodes by: the `batch`, as in the papers, or the `stored` statistics.
    """

    inner_lr: float = Field(default=0.01, gt=0)
    start: Start = "means"
    statistics: Statistics = "batch"

    @property
    def fixed_way(self) -> int:
        """Classes of the episodes that the classifier can solve; 0 for any number."""
        return self.way if self.start == "learned" else 0

    def prepare(self, net: Net, tasks: Sequence[Task]) -> MetaLearner:
        """Freeze the prototypes, and add the classifier that steps start from."""
        super().prepare(net, tasks)
        return MetaLearner(freeze_prototypes(net, self.head()), self.fixed_way)

    def settle_(self, learner: Any, tasks: Sequence[Task]) -> None:
        """Set the statistics of BatchNorm and the prototypes, see `settle_`."""
        settle_(learner.net, tasks, self.batchnorm)


class LearnedSteps(MetaLearning):
    """Base of the strategies whose gradient passes through the inner steps.

    Attributes:
        first_order: Whether inner steps count as constants in the gradient, which saves time and memory.
    """

    first_order: bool = False

    @abstractmethod
    def answer(self, learner: MetaLearner, episode: Episode) -> Tensor:
        """Return the logits `(N, W)` of an episode's queries behind the inner steps."""

    def loss(self, learner: MetaLearner, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries behind the inner steps."""
        loss = query_loss(
            learner, batch, self.answer,
            shot=self.shot, statistics=self.statistics, label_smoothing=self.label_smoothing,
        )  # fmt: skip
        return {"label": loss}

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return the accuracy behind inner steps, which the exported file does not take; see `measure_adaptation`."""
        self.settle_(learner, tasks)
        return measure_adaptation(learner, self.answer, self.fixed_way, tasks[-1], device)
