"""The inner steps of meta-learning: a few steps of gradient descent on the support images of one episode.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, D features, S side, B examples, N = W * Q.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Task
from effxfer.net.heads.prototypes import class_means
from effxfer.net.net import Net
from effxfer.net.recalibrate import recalibrate_
from effxfer.net.taps import tap_widths
from effxfer.transfer.few_shot.episodes import Episode, set_prototypes_, split_episode
from effxfer.transfer.fine_tuning.batchnorm import Mode
from effxfer.transfer.fine_tuning.linear import Features
from effxfer.transfer.regularized.reference_model import ModelWrapper

Start = Literal["means", "learned"]
Statistics = Literal["batch", "stored"]
Weights = Mapping[str, Tensor]
WEIGHT, BIAS = "head.weight", "head.bias"
# Chosen: a channel's mean is then known to a thirtieth of its deviation, even from one number of each image.
CALIBRATION, BATCH = 1024, 64


class Descent(NamedTuple):
    """What inner steps lead to.

    Attributes:
        weights: The adapted weights, by name.
        loss: The loss before the last step; 0 without steps.
    """

    weights: Weights
    loss: Tensor


class MetaLearner(ModelWrapper):
    """A network with a linear classifier of an episode's W classes, from which inner steps start.

    Args:
        net: The network.
        way: W; 0 for a classifier that starts at the means of the support images.
    """

    def __init__(self, net: Net, way: int) -> None:
        super().__init__(net)
        self.start = nn.Linear(tap_widths(net, ("out",))["out"], way) if way else nn.Identity()

    def classifier(self, features: Tensor, labels: Tensor, way: int) -> Weights:
        """Return the classifier before the first step, for support features `(B, D)` with labels `(B,)`.

        At the means it is the head of prototypes, written as a linear layer (Triantafillou et al., 2020,
        https://arxiv.org/abs/1903.03096), so that the exported file is what is trained, without its inner steps.
        """
        if isinstance(self.start, nn.Linear):
            return {WEIGHT: self.start.weight, BIAS: self.start.bias}
        means = class_means(features, labels, way)
        return {WEIGHT: 2 * means, BIAS: -means.square().sum(1)}

    def body_weights(self) -> Weights:
        """Return the trained weights of the body, by their names in the network."""
        return {f"body.{name}": weight for name, weight in self.body.named_parameters() if weight.requires_grad}

    def features(self, weights: Weights, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to features `(B, D)` in float32, with other weights of the body."""
        placed = {f"net.{name}": weight for name, weight in weights.items() if name.startswith("body.")}
        features: Tensor = functional_call(Features(self.net), placed, (images,))
        return features.float()


def classify(weights: Weights, features: Tensor) -> Tensor:
    """Map features `(B, D)` to logits `(B, W)` by the classifier among weights."""
    return F.linear(features, weights[WEIGHT], weights[BIAS])


def descend(
    loss: Callable[[Weights], Tensor], weights: Weights, steps: int, rate: float, *,
    first_order: bool, keep: Weights | None = None,
) -> Descent:  # fmt: skip
    """Make steps of gradient descent.

    Args:
        loss: Of weights, by name.
        weights: To start from.
        steps: At least 0; 0 returns the weights as they are.
        rate: Learning rate.
        first_order: Whether steps count as constants in the gradient of the result.
        keep: Masks of a ticket's weights, by name; where they are false, weights do not move.
    """
    value = torch.zeros(())
    for _ in range(steps):
        # Variables of their own: a classifier that starts at means depends on the body, and steps hold it meanwhile.
        points = {name: _variable(weight, first_order=first_order) for name, weight in weights.items()}
        current = loss(points)
        gradients = torch.autograd.grad(current, list(points.values()), create_graph=not first_order)
        moves = dict(zip(weights, gradients, strict=True))
        for name in (keep or {}).keys() & moves.keys():
            moves[name] = moves[name] * (keep or {})[name]
        weights = {name: weight - rate * moves[name] for name, weight in weights.items()}
        value = current.detach()
    return Descent(weights, value)


def _variable(weight: Tensor, *, first_order: bool) -> Tensor:
    """Return a weight as a variable of its own, which in second order still depends on it."""
    return weight.detach().requires_grad_() if first_order else weight.view_as(weight)


def norms_of(body: nn.Module) -> list[_BatchNorm]:
    """List the BatchNorm layers that have statistics."""
    return [module for module in body.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@contextmanager
def normalized_by(body: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Let BatchNorm use the statistics of a batch or the stored ones in the block; `batch` leaves modes as they are."""
    layers = [norm for norm in norms_of(body) if norm.training and statistics == "stored"]
    for norm in layers:
        norm.eval()
    try:
        yield
    finally:
        for norm in layers:
            norm.train()


@torch.no_grad()
def update_statistics_(learner: MetaLearner, images: Tensor, statistics: Statistics) -> None:
    """Add images `(B, 3, S, S)` to the stored statistics of BatchNorm, if episodes are normalised by these."""
    if statistics == "stored" and norms_of(learner.body):
        learner.body(images)


def query_loss(
    learner: MetaLearner, batch: Tensor, answer: Callable[[MetaLearner, Episode], Tensor], *,
    shot: int, statistics: Statistics, label_smoothing: float,
) -> Tensor:  # fmt: skip
    """Return the mean cross-entropy of the queries of episodes of images `(E, W, K + Q, 3, S, S)`.

    Args:
        learner: Also updates its stored statistics of BatchNorm, if episodes are normalised by these.
        batch: The episodes.
        answer: Returns the logits `(N, W)` of an episode's queries behind the inner steps.
        shot: K.
        statistics: What BatchNorm normalises by.
        label_smoothing: As for `Strategy`.
    """
    update_statistics_(learner, batch.flatten(0, 2), statistics)
    losses = []
    with normalized_by(learner.body, statistics):
        for images in batch:
            episode = split_episode(images, shot)
            losses.append(F.cross_entropy(answer(learner, episode), episode.labels, label_smoothing=label_smoothing))
    return torch.stack(losses).mean()


def settle_(net: Net, tasks: Sequence[Task], batchnorm: Mode) -> None:
    """Bring a network into the state that a device has: statistics of its present weights, and prototypes.

    Inner steps see weights that the network never keeps; what they left in the statistics is averaged anew, unless
    `batchnorm` holds the statistics.
    """
    task = tasks[-1]
    device, rows = next(net.parameters()).device, task.train.rows
    chosen = torch.linspace(0, len(rows) - 1, min(len(rows), CALIBRATION)).round().long().numpy()
    size = min(len(chosen), BATCH)
    if batchnorm in ("train", "statistics") and size > 1:
        starts = range(0, len(chosen) - size + 1, size)
        recalibrate_(net.body, (input_tensor(rows[chosen[i : i + size]], net.input, device) for i in starts))
    set_prototypes_(net, task)
