"""Add contrastive losses between images and classes to the label's loss (bi-tuning; Zhong et al., 2020).

https://arxiv.org/abs/2011.06182. The paper contrasts with a queue of keys from a slowly moving copy of the network;
here the other images of the batch are the keys, as in supervised contrastive learning (Khosla et al. 2020,
https://arxiv.org/abs/2004.11362), so that nothing is kept between steps.

Shape legend: B images, D features, P projected features, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.transfer.base import Strategy
from effxfer.transfer.regularized.reference_model import ModelWrapper, capture_head_inputs


class BiTuning(Strategy):
    """Fine-tune every weight, and pull features of a class together and away from other classes.

    Attributes:
        weight: Weight of both contrastive losses, image-image and class-image; 0 is plain fine-tuning.
        temperature: Temperature of similarities. The paper's is 0.07.
        width: Units of the projection for image similarities, which is discarded after training.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})

    weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(default=0.07, gt=0)
    width: int = Field(default=128, ge=1)  # as in MoCo and SimCLR

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Put a projection beside the network.

        Raises:
            SettingsError: If images are mixed, so that they are of no one class.
        """
        if self.augment.mixup or self.augment.cutmix:
            raise SettingsError("bi_tuning compares images of one class each", "leave mixup and cutmix out")
        super().prepare(net, tasks)
        return Projected(net, sum(tap_widths(net, net.taps).values()), self.width)

    def loss(self, learner: "Projected", batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy, and the contrasts."""
        with capture_head_inputs(learner.net) as head_inputs:
            logits = learner.net(batch[0])
        label = F.cross_entropy(logits, batch[1], label_smoothing=self.label_smoothing)
        # In float32: similarities are divided by 0.07, and softmax of half-precision numbers is coarse.
        with torch.autocast(logits.device.type, enabled=False):
            unit = F.normalize(learner.projection(head_inputs[-1].float()), dim=1)
            images = among_images(unit, batch[1], self.temperature)
            classes = among_classes(logits.float(), batch[1])
        return {"label": label, "images": self.weight * images, "classes": self.weight * classes}


class Projected(ModelWrapper):
    """A network with a projection of its head's input."""

    def __init__(self, net: Net, features: int, width: int) -> None:
        super().__init__(net)
        self.projection = nn.Linear(features, width)


def among_images(unit: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Minus the mean log-likelihood that an image picks the others of its class among all others; 0 if it has none.

    Args:
        unit: Of length 1, `(B, P)`.
        labels: `(B,)`.
        temperature: Of the softmax over likenesses.
    """
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    alike = (labels[:, None] == labels[None]) & ~itself
    # An image is no key of its own: it would take all of the softmax.
    likeness = (unit @ unit.mT / temperature).masked_fill(itself, float("-inf"))
    return mean_log_likelihood(likeness, alike)


def among_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the mean log-likelihood that a class picks its images among those of the batch.

    Args:
        logits: `(B, C)`.
        labels: `(B,)`.
    """
    alike = labels[None] == torch.arange(logits.shape[1], device=labels.device)[:, None]
    return mean_log_likelihood(logits.mT, alike)


def mean_log_likelihood(likeness: Tensor, alike: Tensor) -> Tensor:
    """Average minus the log-softmax of rows `(N, B)` where `alike`, per row that has any and then over those."""
    log = likeness.log_softmax(1).masked_fill(~alike, 0.0)
    counts = alike.sum(1)
    # Rows without a match count for nothing, also not in the mean.
    rows = -log.sum(1) / counts.clamp_min(1)
    return rows.sum() / (counts > 0).sum().clamp_min(1)
