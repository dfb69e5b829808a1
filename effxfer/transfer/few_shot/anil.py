"""ANIL: learn features on which a few steps of the classifier alone solve an episode (Raghu et al., 2020).

"Almost No Inner Loop", https://arxiv.org/abs/1909.09157: the gradient passes through the steps.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.few_shot.episode_report import measure_adaptation
from effxfer.transfer.few_shot.episodes import Episode, check_episodes, draw_episodes, freeze_prototypes, split_episode
from effxfer.transfer.few_shot.inner_loop import (
    MetaLearner,
    Start,
    Statistics,
    classify,
    descend,
    normalized_by,
    settle_,
    update_statistics_,
)


class Anil(Strategy):
    """Train the body such that a few steps of a classifier on the support images classify the queries.

    The exported file takes no steps: it compares with the nearest mean, which the steps start from.

    Attributes:
        batch: Episodes per step.
        way: Classes of an episode, at least 2.
        shot: Support images of each class.
        query: Query images of each class.
        episodes: Episodes of an epoch.
        rotations: As for `prototypes`.
        steps: Inner steps; 0 with `start = "means"` is `prototypes`.
        inner_lr: Learning rate of inner steps.
        first_order: Whether inner steps count as constants in the gradient.
        start: Where the classifier starts: at the `means` of the support features, or at weights that are `learned`,
            as in the paper, which classify episodes of `way` classes only.
        statistics: What BatchNorm normalises episodes by: the `batch`, as in the paper, or the `stored` statistics.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False

    # As those of `prototypes`, so that both compare.
    batch: int = Field(default=1, ge=1)
    way: int = Field(default=20, ge=2)
    shot: int = Field(default=1, ge=1)
    query: int = Field(default=5, ge=1)
    episodes: int = Field(default=100, ge=1)
    rotations: bool = False
    steps: int = Field(default=5, ge=0, le=100)  # the paper's on mini-ImageNet
    inner_lr: float = Field(default=0.01, gt=0)
    first_order: bool = False
    start: Start = "means"
    statistics: Statistics = "batch"

    @model_validator(mode="after")
    def _has_effect(self) -> "Anil":
        check_episodes(self)
        return self

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes"}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> MetaLearner:
        """Freeze the prototypes, and add the classifier that steps start from."""
        super().prepare(net, tasks)
        return MetaLearner(freeze_prototypes(net, self.head()), self.way if self.start == "learned" else 0)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of images `(E, W, K + Q, 3, S, S)`, see `draw_episodes`."""
        return draw_episodes(self, tasks[-1], device)

    def loss(self, learner: MetaLearner, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries behind the inner steps."""
        update_statistics_(learner, batch.flatten(0, 2), self.statistics)
        losses = []
        with normalized_by(learner.body, self.statistics):
            for images in batch:
                episode = split_episode(images, self.shot)
                logits = self.answer(learner, episode)
                losses.append(F.cross_entropy(logits, episode.labels, label_smoothing=self.label_smoothing))
        return {"label": torch.stack(losses).mean()}

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

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the accuracy on the validation split in the state that a device has."""
        settle_(learner.net, tasks, self.batchnorm)
        return super().judge(learner, tasks, device)

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return the accuracy behind inner steps, which the exported file does not take; see `measure_adaptation`."""
        settle_(learner.net, tasks, self.batchnorm)
        return measure_adaptation(learner, self.answer, self.way if self.start == "learned" else 0, tasks[-1], device)

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Leave the state that a device has."""
        settle_(learner.net, tasks, self.batchnorm)
        return super().finish(learner, tasks)
