"""Matching networks: learn features whose attention over a few labelled examples classifies (Vinyals et al., 2016).

https://arxiv.org/abs/1606.04080. Features do not depend on the rest of an episode: the paper's full context embeddings,
which helped on ImageNet and not on Omniglot, would need the whole support in the graph.

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
from effxfer.net.heads.prototypes import prototype_logits
from effxfer.net.heads.spec import Metric
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


class Matching(Strategy):
    """Train the whole body on episodes: a query takes the labels of the support images that it resembles.

    The exported file compares with the mean of a class's images, so that its table has a row for each class. With one
    image of a class this is the attention that was trained, with several an approximation of it.

    Attributes:
        batch: Episodes per step.
        way: Classes of an episode, at least 2.
        shot: Support images of each class.
        query: Query images of each class.
        episodes: Episodes of an epoch.
        distance: `cosine`, the paper's, or `euclidean`.
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
    distance: Metric = "cosine"
    rotations: bool = False

    @model_validator(mode="after")
    def _has_effect(self) -> "Matching":
        check_episodes(self)
        return self

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "distance": self.distance}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the prototypes, see `freeze_prototypes`."""
        super().prepare(net, tasks)
        return freeze_prototypes(net, self.head())

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of images `(E, W, K + Q, 3, S, S)`, see `draw_episodes`."""
        return draw_episodes(self, tasks[-1], device)

    def loss(self, learner: Net, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries; all images pass at once, so that BatchNorm sees them together."""
        features = learner.features(batch.flatten(0, 2)).float().unflatten(0, batch.shape[:3])
        return {"label": torch.stack([self.episode_losses(one) for one in features]).mean()}

    def episode_losses(self, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`."""
        episode = split_episode(features, self.shot)
        similarity = prototype_logits(episode.queries, episode.support, self.distance)
        return F.cross_entropy(attention(similarity, self.shot), episode.labels, label_smoothing=self.label_smoothing)

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


def attention(similarity: Tensor, shot: int) -> Tensor:
    """Return logits of classes `(N, W)`, whose softmax is the sum of the attention on each class's examples.

    Args:
        similarity: Of queries and support examples `(N, W * K)`, class by class; attention is its softmax.
        shot: K.
    """
    by_class: Tensor = similarity.unflatten(1, (-1, shot)).logsumexp(2)
    return by_class
