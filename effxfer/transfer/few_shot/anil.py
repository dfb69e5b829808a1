"""ANIL: learn features on which a few steps of the classifier alone solve an episode (Raghu et al., 2020).

"Almost No Inner Loop", https://arxiv.org/abs/1909.09157: the gradient passes through the steps.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.devices import Device
from effxfer.transfer.few_shot.episode_report import measure_adaptation
from effxfer.transfer.few_shot.episodes import Episode, freeze_prototypes
from effxfer.transfer.few_shot.episodic import Episodic
from effxfer.transfer.few_shot.inner_loop import (
    MetaLearner,
    Start,
    Statistics,
    classify,
    descend,
    query_loss,
    settle_,
)


class Anil(Episodic):
    """Train the body such that a few steps of a classifier on the support images classify the queries.

    The exported file takes no steps: it compares with the nearest mean, which the steps start from.

    Attributes:
        steps: Inner steps; 0 with `start = "means"` is `prototypes`.
        inner_lr: Learning rate of inner steps.
        first_order: Whether inner steps count as constants in the gradient.
        start: Where the classifier starts: at the `means` of the support features, or at weights that are `learned`,
            as in the paper, which classify episodes of `way` classes only.
        statistics: What BatchNorm normalises episodes by: the `batch`, as in the paper, or the `stored` statistics.
    """

    steps: int = Field(default=5, ge=0, le=100)  # the paper's on mini-ImageNet
    inner_lr: float = Field(default=0.01, gt=0)
    first_order: bool = False
    start: Start = "means"
    statistics: Statistics = "batch"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> MetaLearner:
        """Freeze the prototypes, and add the classifier that steps start from."""
        super().prepare(net, tasks)
        return MetaLearner(freeze_prototypes(net, self.head()), self.way if self.start == "learned" else 0)

    def loss(self, learner: MetaLearner, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries behind the inner steps."""
        loss = query_loss(
            learner, batch, self.answer,
            shot=self.shot, statistics=self.statistics, label_smoothing=self.label_smoothing,
        )  # fmt: skip
        return {"label": loss}

    def answer(self, learner: MetaLearner, episode: Episode) -> Tensor:
        """Return the logits `(N, W)` of an episode's queries behind the inner steps; all images pass at once."""
        images, count = torch.cat([episode.support, episode.queries]), len(episode.support)
        support, queries = learner.net.features(images).float().split([count, len(episode.queries)])
        start = learner.classifier(support, episode.support_labels, episode.way)
        weights, _ = descend(
            lambda weights: F.cross_entropy(classify(weights, support), episode.support_labels),
            start, self.steps, self.inner_lr, first_order=self.first_order,
        )  # fmt: skip
        return classify(weights, queries)

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return the accuracy behind inner steps, which the exported file does not take; see `measure_adaptation`."""
        settle_(learner.net, tasks, self.batchnorm)
        return measure_adaptation(learner, self.answer, self.way if self.start == "learned" else 0, tasks[-1], device)

    def settle_(self, learner: Any, tasks: Sequence[Task]) -> None:
        """Set the statistics of BatchNorm and the prototypes, see `settle_`."""
        settle_(learner.net, tasks, self.batchnorm)
