"""Train the head alone on frozen features (Alain & Bengio, 2016, https://arxiv.org/abs/1610.01644)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Generator, Tensor, nn

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, balanced_order
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.linear import features_of


class Probe(Strategy):
    """Train the head alone; the body's features are computed once, of the evaluation view of each image.

    `augment` and `batchnorm` would have no effect and are refused.
    """

    of_images: ClassVar[bool] = False

    @model_validator(mode="after")
    def _sees_no_variation(self) -> "Probe":
        if self.augment != Augment():
            raise ValueError("augment has no effect on probe, which sees the evaluation view of each image")
        if self.batchnorm != "train":
            raise ValueError("batchnorm has no effect on probe, whose body stands still")
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body."""
        net.body.requires_grad_(False)
        return net

    def draw(self, learner: Net, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Batches of `(features, labels)`; of positions `(inputs, labels)`, as their features take much memory."""
        if learner.output.per == "position":
            return super().draw(learner, tasks, device)
        features, labels = features_of(learner, tasks[-1])

        def make(index: Tensor, _rng: Generator) -> tuple[Tensor, Tensor]:
            return features[index.to(device)], labels[index.to(device)]

        order = balanced_order(labels.cpu(), self.balance)
        return lambda seed: Batches(len(labels), self.batch, make, seed, order)

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """The head's loss on stored features."""
        if learner.output.per == "position":
            return super().loss(learner, batch, progress)
        features, labels = batch
        return {"label": self.label_loss(learner, learner.head(features), labels)}
