"""Learn from another network's outputs (Hinton et al., 2015, https://arxiv.org/abs/1503.02531)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 2.0


def distilled(
    loss: Callable[[Any, Any, float], Mapping[str, Tensor]], teacher: nn.Module, weight: float, size: int
) -> Any:
    """Blend the loss of plain image batches with the distance to a teacher.

    Args:
        loss: Of a strategy whose batches are `(images, labels)`; it is given the pupil's logits as if they were new.
        teacher: In evaluation mode, on the pupil's device; trained without label smoothing, which would have taken
            away what it knows about likeness between classes (Müller et al., 2019, https://arxiv.org/abs/1906.02629).
        weight: Share of the teacher's term, in [0, 1]; 0 is the plain loss.
        size: Side of the images that the teacher knows; the pupil's are scaled to it (bilinearly).

    Returns:
        A loss with the terms of `loss`, scaled by `1 - weight`, and `teacher`.
    """

    def blended(learner: Any, batch: Any, progress: float) -> dict[str, Tensor]:
        logits = learner(batch[0])
        with torch.no_grad():
            target = teacher(scaled(batch[0], size))
        terms = {k: (1 - weight) * v for k, v in loss(lambda _images: logits, batch, progress).items()}
        return {**terms, "teacher": weight * divergence(logits, target)}

    return blended


def scaled(images: Tensor, size: int) -> Tensor:
    """Scale images `(B, 3, S, S)` to another side, with antialiasing."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def divergence(logits: Tensor, target: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Kullback-Leibler divergence of softened outputs `(B, C)`, times T^2 so that its gradient keeps its size."""
    pupil = F.log_softmax(logits / temperature, 1)
    return (
        F.kl_div(pupil, F.log_softmax(target / temperature, 1), log_target=True, reduction="batchmean") * temperature**2
    )
