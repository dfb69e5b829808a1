"""CORAL: align the covariance of features between two domains, in closed form or as a loss (Sun et al., 2016).

Closed form: https://arxiv.org/abs/1511.05547. Loss (Deep CORAL): https://arxiv.org/abs/1607.01719.

Shape legend: N, B examples, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, balanced_order
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.domain_batches import (
    DomainBatch,
    Statistics,
    domain_features,
    draw_domains,
    require_target,
)
from effxfer.transfer.fine_tuning.linear import Features, features_of
from effxfer.transfer.fine_tuning.probe import Probe


class Coral(Strategy):
    """Fine-tune on a source domain whose features have the covariance of a target's.

    Examples of the target come from `data.target` or `data.unlabelled`; an epoch is a pass over the labelled examples.

    Attributes:
        weight: Weight of the distance between covariances; 0 is training on the source, except that BatchNorm sees both
            domains. With `solve`, the share of the alignment, in [0, 1].
        solve: Freeze the body, whiten the source's features, colour them as the target's in closed form, and train the
            head on them. `augment`, `statistics` and `batchnorm` then have no effect.
        statistics: BatchNorm statistics, as for `dann`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    compares_examples: ClassVar[bool] = True
    adapts_domain: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0)
    solve: bool = False
    statistics: Statistics = "joint"

    @model_validator(mode="after")
    def _solves(self) -> "Coral":
        if self.solve and (self.augment != Augment() or self.batchnorm != "train" or self.statistics != "joint"):
            raise ValueError("with solve the body stands still: leave out augment, batchnorm and statistics")
        if self.solve and self.weight > 1:
            raise ValueError("with solve, weight is the share of the alignment, at most 1")
        if not self.solve and self.batch < 2:
            raise ValueError("batch must be at least 2: the covariance of one example is not defined")
        return self

    def source_only(self) -> Strategy:
        """Return the training without the target; with `solve`, of the head alone."""
        common = {name: getattr(self, name) for name in Strategy.model_fields}
        return Probe(**common) if self.solve else Strategy(**common)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> Net:
        """Freeze the body, if the alignment is solved."""
        super().prepare(net, tasks)
        if self.solve:
            net.body.requires_grad_(False)
        return net

    def draw(self, learner: Net, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of both domains, see `draw_domains`; with `solve`, of aligned features and labels."""
        if not self.solve:
            return draw_domains(tasks, self.batch, self.augment, device, self.balance)
        target_rows = require_target(tasks[-1]).rows
        features, labels = features_of(learner, tasks[-1])
        target = predict(Features(learner), target_rows, learner.input, Device(torch=device)).to(features)
        aligned = features.lerp(match_covariance(features, target), self.weight)

        def make(index: Tensor, _rng: Generator) -> tuple[Tensor, Tensor]:
            return aligned[index.to(device)], labels[index.to(device)]

        order = balanced_order(labels.cpu(), self.balance)
        return lambda seed: Batches(len(labels), self.batch, make, seed, order)

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the labels, and the distance between covariances."""
        if self.solve:
            features, labels = batch
            return {"label": self.label_loss(learner, learner.head(features), labels)}
        return self._deep_loss(learner, batch)

    def _deep_loss(self, learner: Net, batch: DomainBatch) -> Mapping[str, Tensor]:
        inputs, labels, target_inputs, *_ = batch
        source, target = domain_features(learner, inputs, target_inputs, self.statistics)
        label = F.cross_entropy(learner.head(source), labels, label_smoothing=self.label_smoothing)
        return {"label": label, "covariance": self.weight * covariance_distance(source.float(), target.float())}


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance between the covariances of features `(B, D)`, divided by `4 D^2`."""
    return (covariance(source) - covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def covariance(features: Tensor) -> Tensor:
    """Return the covariance `(D, D)` of features `(N, D)`, N at least 2."""
    centred = features - features.mean(0)
    return centred.mT @ centred / (len(features) - 1)


def match_covariance(source: Tensor, target: Tensor) -> Tensor:
    """Whiten features `(N, D)` of a source, and give them the covariance and the mean of a target's.

    The identity is added to both covariances, as in the paper, so that columns without variance do no harm.
    """
    identity = torch.eye(source.shape[1], dtype=torch.float64, device=source.device)
    whiten = _power(covariance(source.double()) + identity, -0.5)
    colour = _power(covariance(target.double()) + identity, 0.5)
    centred = (source - source.mean(0)).double()
    return (centred @ whiten @ colour + target.mean(0).double()).to(source.dtype)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of a symmetric matrix whose eigenvalues are above 0."""
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = vectors * values.clamp_min(1e-12).pow(exponent) @ vectors.mT
    return power
