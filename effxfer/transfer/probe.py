"""Train the head alone on frozen features (Alain & Bengio, 2016, https://arxiv.org/abs/1610.01644)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from effxfer.data.augment import Augment
from effxfer.data.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.base import Strategy


class Features(nn.Module):
    """A network's features as a module of their own, for evaluation over a whole split."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to features `(B, D)`."""
        return self.net.features(x)


class Probe(Strategy):
    """Train the head alone; the body's features are computed once, of the evaluation view of each image.

    `augment` would have no effect and is refused.
    """

    of_images: ClassVar[bool] = False

    @model_validator(mode="after")
    def _sees_no_variation(self) -> "Probe":
        if self.augment != Augment():
            raise ValueError("augment has no effect on probe, which sees the evaluation view of each image")
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body."""
        net.body.requires_grad_(False)
        return net

    def draw(self, learner: Net, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Batches of `(features, labels)`."""
        split = tasks[-1].train
        features = predict(Features(learner), split.pixels, tasks[-1].preprocess, Device(torch=device)).to(device)
        labels = torch.tensor(split.labels).to(device)

        def make(index: Tensor, _rng: Generator) -> tuple[Tensor, Tensor]:
            return features[index.to(device)], labels[index.to(device)]

        return lambda seed: Batches(len(split), self.batch, make, seed)

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy of the head."""
        features, labels = batch
        return {"label": F.cross_entropy(learner.head(features), labels, label_smoothing=self.label_smoothing)}

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Thaw the body."""
        return learner.requires_grad_(True)
