"""What strategies that learn from episodes share: their batches and their prototypes.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_views
from effxfer.data.batches.episodes import Episodes
from effxfer.data.task import Task
from effxfer.errors import DataError, SettingsError
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.net import Net
from effxfer.settings import build
from effxfer.transfer.fine_tuning.linear import features_of

TURNS = 4  # by 0, 90, 180 and 270 degrees, as in Vinyals et al. 2016 and Snell et al. 2017


class EpisodeSettings(Protocol):
    """Settings of a strategy that learns from episodes; see `Episodic`."""

    @property
    def batch(self) -> int:
        """Episodes per step."""

    @property
    def way(self) -> int:
        """Classes of an episode."""

    @property
    def shot(self) -> int:
        """Support images of each class."""

    @property
    def query(self) -> int:
        """Query images of each class."""

    @property
    def episodes(self) -> int:
        """Episodes of an epoch."""

    @property
    def rotations(self) -> bool:
        """Whether turned classes are classes."""

    @property
    def augment(self) -> Augment:
        """Augmentation of images."""


class Episode(NamedTuple):
    """One classification problem.

    Attributes:
        support: What has a label: images `(W * K, 3, S, S)` or features `(W * K, D)`, class by class.
        queries: What is classified, `(N, ...)`, class by class.
        support_labels: int64 `(W * K,)`.
        labels: int64 `(N,)`.
    """

    support: Tensor
    queries: Tensor
    support_labels: Tensor
    labels: Tensor

    @property
    def way(self) -> int:
        """Number of classes."""
        return int(self.labels[-1]) + 1


def draw_episodes(settings: EpisodeSettings, task: Task, device: torch.device) -> Callable[[int], Batches]:
    """Prepare a task's training split; return a function from an epoch's seed to batches `(E, W, K + Q, 3, S, S)`.

    Raises:
        DataError: If too few classes have enough images for an episode.
    """
    look = make_views(task.train, task.input, settings.augment, device)
    pool = Episodes(task.train.labels, settings.shot + settings.query)
    turns = TURNS if settings.rotations else 1
    if len(pool) * turns < settings.way:
        problem = f"{len(pool)} classes of {task.name} have the {pool.size} training images that an episode takes"
        hint = "lower options.way, options.shot or options.query"
        raise DataError(f"{problem}, {settings.way} are needed", hint)

    def episode(rng: Generator) -> Tensor:
        chosen = torch.randperm(len(pool) * turns, generator=rng)[: settings.way]
        rows = pool.draw(chosen // turns, rng)
        images = look(rows.flatten(), rng).unflatten(0, rows.shape)
        turned = zip(images, (chosen % turns).tolist(), strict=True)
        return torch.stack([one.rot90(turn, (-2, -1)) for one, turn in turned])

    def make(index: Tensor, rng: Generator) -> Tensor:
        return torch.stack([episode(rng) for _ in index])

    return lambda seed: Batches(settings.episodes, settings.batch, make, seed)


def split_episode(drawn: Tensor, shot: int) -> Episode:
    """Split images or features `(W, K + Q, ...)` of one episode into K support examples of each class, and queries."""
    labels = torch.arange(len(drawn), device=drawn.device)
    support, queries = drawn[:, :shot], drawn[:, shot:]
    return Episode(
        support.flatten(0, 1), queries.flatten(0, 1),
        labels.repeat_interleave(shot), labels.repeat_interleave(queries.shape[1]),
    )  # fmt: skip


def freeze_prototypes(net: Net, spec: Mapping[str, Any]) -> Net:
    """Return a network whose prototypes are frozen, as they are computed from the body's features.

    Raises:
        SettingsError: If the head has no prototypes with the distance of a `HeadSpec`.
    """
    distance, head = build(HeadSpec, dict(spec), "head").distance, net.head
    if not isinstance(head, Prototypes) or head.distance != distance:
        hint = "make it one by `effxfer finetune` with a strategy of few-shot learning"
        raise SettingsError(f"the network has no head of prototypes with {distance} distance", hint)
    head.out.requires_grad_(False)
    return net


def set_prototypes_(net: Net, task: Task) -> None:
    """Set a network's prototypes to the class means of the training features; masked weights stay zero."""
    head = net.head
    assert isinstance(head, Prototypes)
    head.fit_(*features_of(net, task))
    # Features may be zero where a ticket removed weights, but means of others are not.
    net.apply_masks_()
