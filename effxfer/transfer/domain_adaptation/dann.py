"""DANN: learn features from which a discriminator cannot tell the domain of an image (Ganin et al., 2016).

https://arxiv.org/abs/1505.07818.

Shape legend: B images of each domain, D features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import exp
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.data.batches.augment import mix_images
from effxfer.data.batches.batches import Batches, balanced_order, make_views
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.transfer.base import Strategy
from effxfer.transfer.regularized.reference_model import ModelWrapper

Batch = tuple[Tensor, Tensor, Tensor]


class Dann(Strategy):
    """Fine-tune all weights on labelled images of a source domain, and align the features of a target domain with it.

    Images of the target domain come from `data.target` or `data.unlabelled`; an epoch is a pass over the labelled
    images. The discriminator is trained at the head's rate (`fit.head_lr`; 10 in the paper) and then discarded.

    Attributes:
        weight: Weight of the reversed gradient at the end of training; 0 ignores the discriminator.
        gamma: Speed at which the weight rises: `weight * (2 / (1 + exp(-gamma * progress)) - 1)`; 10 in the paper.
        width: Units of each of the discriminator's two hidden layers.
        statistics: BatchNorm statistics. `joint`: both domains form one batch, and evaluation uses their joint
            statistics. `separate`: each domain forms its own batch, so that normalisation removes a shift that all its
            images share. The network then keeps only the target's statistics, also for evaluation on the source.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False

    # The paper's. On photographs to sketches it cost nine points (25.0 against 33.7 %): smaller ones are worth a try.
    weight: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=10.0, gt=0)
    width: int = Field(default=256, ge=1)  # chosen: the paper's are 100 to 1,024, by task
    statistics: Literal["joint", "separate"] = "joint"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add a discriminator to the network."""
        super().prepare(net, tasks)
        return DomainClassifier(net, sum(tap_widths(net, net.taps).values()), self.width)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of images `(B, 3, S, S)`, their labels, and as many images of the target domain.

        Raises:
            SettingsError: If the task has no images of a target domain.
        """
        task = tasks[-1]
        if task.unlabelled is None:
            hint = "name them with data.target, or data.unlabelled"
            raise SettingsError("dann needs images of another domain of the same classes", hint)
        count, labels = len(task.unlabelled), torch.tensor(task.train.labels)
        source_views, target_views = (
            make_views(split, task.input, self.augment, device) for split in (task.train, task.unlabelled)
        )  # fmt: skip

        def make(index: Tensor, rng: Generator) -> Batch:
            labelled = mix_images(
                source_views(index, rng), labels[index].to(device), len(task.classes), self.augment, rng
            )
            return *labelled, target_views(torch.randint(count, (len(index),), generator=rng), rng)

        order = balanced_order(labels, self.balance)
        return lambda seed: Batches(len(labels), self.batch, make, seed, order)

    def loss(self, learner: "DomainClassifier", batch: Batch, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the labels, and that of the domains, whose gradient is reversed for the body."""
        images, labels, target_images = batch
        source, target = self.features(learner.net, images, target_images)
        label = F.cross_entropy(learner.net.head(source), labels, label_smoothing=self.label_smoothing)
        domain_logits = learner.discriminator(reverse(torch.cat([source, target]), self.reversal(progress)))
        domain = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).to(domain_logits)
        return {"label": label, "domain": F.binary_cross_entropy_with_logits(domain_logits[:, 0], domain)}

    def features(self, net: Net, images: Tensor, target_images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features `(B, D)` of both domains."""
        if self.statistics == "joint":
            # In one pass: BatchNorm normalises both domains by the same numbers, as evaluation will.
            source, target = net.features(torch.cat([images, target_images])).split([len(images), len(target_images)])
            return source, target
        with frozen_statistics(net):
            source = net.features(images)
        # The target last and unfrozen: its statistics are what stays.
        return source, net.features(target_images)

    def reversal(self, progress: float) -> float:
        """Return the weight of the reversed gradient at a progress in [0, 1).

        >>> [round(Dann().reversal(progress), 3) for progress in (0, 0.1, 0.5, 1)]
        [0.0, 0.462, 0.987, 1.0]
        """
        return self.weight * (2 / (1 + exp(-self.gamma * progress)) - 1)


class DomainClassifier(ModelWrapper):
    """A network with a discriminator that classifies the domain from the head's input."""

    def __init__(self, net: Net, features: int, width: int) -> None:
        super().__init__(net)
        self.discriminator = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse(x: Tensor, weight: float) -> Tensor:
    """Return `x` unchanged; its gradient is multiplied by `-weight`."""
    result: Tensor = _Reverse.apply(x, weight)
    return result


@contextmanager
def frozen_statistics(net: Net) -> Iterator[None]:
    """Keep BatchNorm's running statistics unchanged in the block."""
    norms = [(m, m.momentum) for m in net.body.modules() if isinstance(m, _BatchNorm)]
    for norm, _ in norms:
        # Not evaluation mode: the batch is still normalised by itself, only the running numbers stay.
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum
