"""Learn features in which classes are points, so that new classes need no training (Snell et al., 2017).

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
    """Train every weight of the body by episodes: tell queries of some classes apart by the means of a few examples.

    The network's head is then the means of the training images' features, one prototype for each class. An exported
    file takes prototypes of other classes as an input. What is reported on new classes is `data.target`.

    Attributes:
        batch: Episodes per step.
        way: Classes of an episode, at least 2; more than there will be later helps (the paper: 60 for 5-way, 1-shot).
        shot: Examples of each class that are known; the paper's are as many as later.
        query: Examples of each class to be told apart.
        episodes: In an epoch.
        distance: `euclidean` or `cosine`.
        rotations: Take each class turned by 90, 180 and 270 degrees for three more, where orientation tells classes
            apart, as in letters.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
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
        """A head of prototypes."""
        return {"kind": "prototypes", "distance": self.distance}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Leave the prototypes out of what is trained: they follow from the body.

        Raises:
            SettingsError: If the head is another one.
        """
        if not isinstance(net.head, Prototypes) or net.head.distance != self.distance:
            hint = "make it one by `effxfer finetune` with strategy prototypes"
            raise SettingsError(f"the network has no head of prototypes with {self.distance} distance", hint)
        super().prepare(net, tasks)
        net.head.requires_grad_(False)
        return net

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Batches of images `(E, W, K + Q, 3, S, S)`.

        Raises:
            DataError: If there are too few classes, or too few images of them.
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
        """Cross-entropy of queries; all images pass at once, for BatchNorm."""
        # Distances in float32: under bf16, with 8 bits, near prototypes could not be told apart.
        features = learner.features(batch.flatten(0, 2)).float().unflatten(0, batch.shape[:3])
        return {"label": torch.stack([self.episode_losses(one) for one in features]).mean()}

    def episode_losses(self, features: Tensor) -> Tensor:
        """Give the cross-entropy of one episode's features `(W, K + Q, D)`."""
        support, queries = features[:, : self.shot], features[:, self.shot :]
        logits = prototype_logits(queries.flatten(0, 1), support.mean(1), self.distance)
        labels = torch.arange(len(features), device=features.device).repeat_interleave(queries.shape[1])
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Accuracy on the validation split, by the prototypes of the training split."""
        settle_(learner, tasks[-1])
        return super().judge(learner, tasks, device)

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Leave the prototypes of the training split."""
        settle_(learner, tasks[-1])
        return super().finish(learner, tasks)


@torch.no_grad()
def settle_(net: Net, task: Task) -> None:
    """Put a network's prototypes where the training images' features are; what a ticket removed stays zero."""
    features, labels = features_of(net, task)
    net.head.get_parameter("out.weight").copy_(class_means(features, labels, len(task.classes)))
    # Features may be zero where a ticket removed weights, but means of others are not.
    net.apply_masks_()
