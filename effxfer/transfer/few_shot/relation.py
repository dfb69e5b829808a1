"""Relation networks: learn the comparison of a query with a class, beside the features (Sung et al., 2018).

https://arxiv.org/abs/1711.06025.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.heads.prototypes import class_means
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.few_shot.episode_report import measure_transductive
from effxfer.transfer.few_shot.episodes import (
    check_episodes,
    draw_episodes,
    freeze_prototypes,
    set_prototypes_,
    split_episode,
)


class RelationNet(Strategy):
    """Train the body and a comparison on episodes; the comparison is part of the exported graph.

    It takes a feature and the mean feature of a class, side by side. The paper adds up the maps of a class's images,
    and compares by convolutions; here these are vectors, and a mean does not grow with the number of images.

    Attributes:
        batch: Episodes per step.
        way: Classes of an episode, at least 2.
        shot: Support images of each class.
        query: Query images of each class.
        episodes: Episodes of an epoch.
        width: Hidden units of the comparison.
        rotations: As for `prototypes`.
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
    width: int = Field(default=64, ge=1, le=65536)
    rotations: bool = False

    @model_validator(mode="after")
    def _has_effect(self) -> "RelationNet":
        check_episodes(self)
        return self

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes with a learned comparison."""
        return {"kind": "prototypes", "distance": "relation", "hidden": self.width}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the prototypes, and train the comparison; see `freeze_prototypes`."""
        super().prepare(net, tasks)
        return freeze_prototypes(net, self.head())

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of images `(E, W, K + Q, 3, S, S)`, see `draw_episodes`."""
        return draw_episodes(self, tasks[-1], device)

    def loss(self, learner: Net, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries; all images pass at once, so that BatchNorm sees them together."""
        features = learner.features(batch.flatten(0, 2)).float().unflatten(0, batch.shape[:3])
        return {"label": torch.stack([self.episode_losses(learner.head, one) for one in features]).mean()}

    def episode_losses(self, head: Any, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`."""
        episode = split_episode(features, self.shot)
        scores = head.compare(episode.queries, class_means(episode.support, episode.support_labels, len(features)))
        return F.cross_entropy(scores, episode.labels, label_smoothing=self.label_smoothing)

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the accuracy on the validation split with the prototypes of the training split."""
        set_prototypes_(learner, tasks[-1])
        return super().judge(learner, tasks, device)

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return the transductive figure, see `measure_transductive`."""
        return measure_transductive(learner, tasks[-1], device)

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Set the prototypes of the training split."""
        set_prototypes_(learner, tasks[-1])
        return super().finish(learner, tasks)
