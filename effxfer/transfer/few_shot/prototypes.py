"""Prototypical networks: learn features in which a class is one point (Snell et al., 2017).

https://arxiv.org/abs/1703.05175.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches, make_views
from effxfer.data.batches.episodes import Episodes
from effxfer.data.task import Task
from effxfer.errors import DataError, SettingsError
from effxfer.net.heads.prototypes import Prototypes, class_means, prototype_logits
from effxfer.net.heads.spec import Distance
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.linear import features_of

TURNS = 4  # by 0, 90, 180 and 270 degrees, as in Vinyals et al. 2016 and the paper


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
    distance: Distance = "euclidean"
    rotations: bool = False

    @model_validator(mode="after")
    def _mixes_nothing(self) -> "PrototypeNet":
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("mixup and cutmix have no effect on prototypes: an image has one class")
        if self.episodes < self.batch:
            raise ValueError("an epoch of fewer episodes than a step takes has no step: lower batch")
        if self.balance:
            raise ValueError(
                "balance has no effect on prototypes: an episode has as many images of each of its classes"
            )
        return self

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "distance": self.distance}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the prototypes, which are computed from the body's features.

        Raises:
            SettingsError: If the head has no prototypes with this distance.
        """
        if not isinstance(net.head, Prototypes) or net.head.distance != self.distance:
            hint = "make it one by `effxfer finetune` with strategy prototypes"
            raise SettingsError(f"the network has no head of prototypes with {self.distance} distance", hint)
        super().prepare(net, tasks)
        net.head.requires_grad_(False)
        return net

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of images `(E, W, K + Q, 3, S, S)`.

        Raises:
            DataError: If too few classes have enough images for an episode.
        """
        task = tasks[-1]
        look = make_views(task.train, task.input, self.augment, device)
        pool = Episodes(task.train.labels, self.shot + self.query)
        turns = TURNS if self.rotations else 1
        if len(pool) * turns < self.way:
            problem = f"{len(pool)} classes of {task.name} have the {pool.size} training images that an episode takes"
            raise DataError(f"{problem}, {self.way} are needed", "lower options.way, options.shot or options.query")

        def episode(rng: Generator) -> Tensor:
            chosen = torch.randperm(len(pool) * turns, generator=rng)[: self.way]
            rows = pool.draw(chosen // turns, rng)
            images = look(rows.flatten(), rng).unflatten(0, rows.shape)
            turned = zip(images, (chosen % turns).tolist(), strict=True)
            return torch.stack([one.rot90(turn, (-2, -1)) for one, turn in turned])

        def make(index: Tensor, rng: Generator) -> Tensor:
            return torch.stack([episode(rng) for _ in index])

        return lambda seed: Batches(self.episodes, self.batch, make, seed)

    def loss(self, learner: Net, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the queries; all images pass at once, so that BatchNorm sees them together."""
        # Distances in float32: under bf16, with 8 bits, near prototypes could not be told apart.
        features = learner.features(batch.flatten(0, 2)).float().unflatten(0, batch.shape[:3])
        return {"label": torch.stack([self.episode_losses(one) for one in features]).mean()}

    def episode_losses(self, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`."""
        support, queries = features[:, : self.shot], features[:, self.shot :]
        logits = prototype_logits(queries.flatten(0, 1), support.mean(1), self.distance)
        labels = torch.arange(len(features), device=features.device).repeat_interleave(queries.shape[1])
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the accuracy on the validation split with the prototypes of the training split."""
        set_prototypes_(learner, tasks[-1])
        return super().judge(learner, tasks, device)

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Set the prototypes of the training split."""
        set_prototypes_(learner, tasks[-1])
        return super().finish(learner, tasks)


@torch.no_grad()
def set_prototypes_(net: Net, task: Task) -> None:
    """Set a network's prototypes to the class means of the training features; masked weights stay zero."""
    features, labels = features_of(net, task)
    net.head.get_parameter("out.weight").copy_(class_means(features, labels, len(task.classes)))
    # Features may be zero where a ticket removed weights, but means of others are not.
    net.apply_masks_()
