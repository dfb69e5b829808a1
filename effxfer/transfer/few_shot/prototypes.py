"""Prototypical networks: learn features in which a class is one point (Snell et al., 2017).

https://arxiv.org/abs/1703.05175.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.heads.prototypes import class_means, prototype_logits
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


class PrototypeNet(Strategy):
    """Train the whole body on episodes: classify query images by the mean features of a few support images.

    The head then holds one prototype per class, the mean of the training images' features. An exported file takes
    prototypes of new classes as an input. Accuracy on new classes is measured on `data.target`.

    Attributes:
        batch: Episodes per step.
        way: Classes of an episode, at least 2. More than at test time helps (the paper: 60 for 5-way, 1-shot).
        shot: Support images of each class; the paper uses the same number as at test time.
        query: Query images of each class.
        episodes: Episodes of an epoch.
        distance: `euclidean` or `cosine`.
        rotations: Whether each class, rotated by 90, 180 and 270 degrees, makes three more classes. For images such as
            letters, where orientation distinguishes classes.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False

    batch: int = Field(default=1, ge=1)
    way: int = Field(default=20, ge=2)  # chosen: many data sets have no 60 classes
    shot: int = Field(default=1, ge=1)
    query: int = Field(default=5, ge=1)  # the paper's on Omniglot
    episodes: int = Field(default=100, ge=1)  # that of the authors' code
    distance: Metric = "euclidean"
    rotations: bool = False

    @model_validator(mode="after")
    def _mixes_nothing(self) -> "PrototypeNet":
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
        """Return batches of images `(E, W, K + Q, 3, S, S)`, see `draw_episodes`.

        Raises:
            DataError: If too few classes have enough images for an episode.
        """
        return draw_episodes(self, tasks[-1], device)

    def loss(self, learner: Net, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries; all images pass at once, so that BatchNorm sees them together."""
        # Distances in float32: under bf16, with 8 bits, near prototypes could not be told apart.
        features = learner.features(batch.flatten(0, 2)).float().unflatten(0, batch.shape[:3])
        return {"label": torch.stack([self.episode_losses(one) for one in features]).mean()}

    def episode_losses(self, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`."""
        episode = split_episode(features, self.shot)
        prototypes = class_means(episode.support, episode.support_labels, len(features))
        logits = prototype_logits(episode.queries, prototypes, self.distance)
        return F.cross_entropy(logits, episode.labels, label_smoothing=self.label_smoothing)

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
