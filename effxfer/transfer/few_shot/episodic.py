"""What strategies that learn from episodes share: their settings, batches and prototypes.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.heads.prototypes import class_means, prototype_logits
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.few_shot.episode_report import measure_transductive
from effxfer.transfer.few_shot.episodes import draw_episodes, freeze_prototypes, set_prototypes_, split_episode


class Episodic(Strategy):
    """Base of the strategies that learn from episodes; their head holds a prototype of each class.

    Attributes:
        batch: Episodes per step.
        way: Classes of an episode, at least 2. More than at test time helps (Snell et al. 2017: 60 for 5-way, 1-shot).
        shot: Support images of each class; the papers use the same number as at test time.
        query: Images of each class beside the support.
        episodes: Episodes of an epoch.
        rotations: Whether each class, rotated by 90, 180 and 270 degrees, makes three more classes. For images such as
            letters, where orientation distinguishes classes.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False

    batch: int = Field(default=1, ge=1)
    way: int = Field(default=20, ge=2)  # chosen: many data sets have no 60 classes
    shot: int = Field(default=1, ge=1)
    query: int = Field(default=5, ge=1)  # that of Snell et al. on Omniglot
    episodes: int = Field(default=100, ge=1)  # that of their code
    rotations: bool = False

    @model_validator(mode="after")
    def _has_effect_on_episodes(self) -> Self:
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("mixup and cutmix have no effect on episodes: an image has one class")
        if self.episodes < self.batch:
            raise ValueError("an epoch of fewer episodes than a step takes has no step: lower batch")
        if self.balance:
            raise ValueError("balance has no effect on episodes, which have as many images of each of their classes")
        return self

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes"}

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

    def loss(self, learner: Any, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries; all images pass at once, so that BatchNorm sees them together."""
        # Distances in float32: under bf16, with 8 bits, near prototypes could not be told apart.
        features = learner.features(batch.flatten(0, 2)).float().unflatten(0, batch.shape[:3])
        return {"label": torch.stack([self.episode_losses(learner.head, one) for one in features]).mean()}

    def episode_losses(self, head: Any, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`, by the nearest class mean."""
        episode = split_episode(features, self.shot)
        means = class_means(episode.support, episode.support_labels, len(features))
        logits = prototype_logits(episode.queries, means, self.head().get("distance", "euclidean"))
        return F.cross_entropy(logits, episode.labels, label_smoothing=self.label_smoothing)

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the accuracy on the validation split with the prototypes of the training split."""
        self.settle_(learner, tasks)
        return super().judge(learner, tasks, device)

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return the transductive figure, see `measure_transductive`."""
        return measure_transductive(learner, tasks[-1], device)

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Leave the state that a device has."""
        self.settle_(learner, tasks)
        return super().finish(learner, tasks)

    def settle_(self, learner: Any, tasks: Sequence[Task]) -> None:
        """Set the prototypes of the training split."""
        set_prototypes_(learner, tasks[-1])
