"""Distil a teacher network: its outputs, and the similarity of images in its features.

Outputs after Hinton et al., 2015 (https://arxiv.org/abs/1503.02531). Features by similarity (Tung & Mori, 2019,
https://arxiv.org/abs/1907.09682): what is compared is how alike a batch's images are to each other, stage by stage, so
that neither widths (the pupil lost channels), nor sides of maps, nor their layout need to be the same, and nothing has
to be learnt that is thrown away afterwards.

Shape legend: B images, C classes.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from effxfer.net.net import Net
from effxfer.net.taps import capture_taps, example_input, stage_ends

Loss = Callable[[Any, Any, float], Mapping[str, Tensor]]
TEMPERATURE = 2.0  # chosen: 4 was worse than labels alone in a measurement, with a smoothed teacher (64.8 against 76 %)


def blend_teacher_loss(
    loss: Loss, teacher: Net, *, logits: float, size: int, features: float = 0.0, temperature: float = TEMPERATURE
) -> Any:
    """Blend the loss of plain image batches with the distance to a teacher, which runs once per batch.

    Args:
        loss: Of a strategy whose batches are `(images, labels)`; it runs the pupil.
        teacher: In evaluation mode, on the pupil's device. One trained with label smoothing has lost what it knows
            about likeness between classes; ask it at temperature 1 (Müller et al., 2019,
            https://arxiv.org/abs/1906.02629).
        logits: Share of the teacher's outputs in the loss, in [0, 1]; 0 is the plain loss.
        size: Side of the images that the teacher knows; the pupil's are scaled to it (bilinearly).
        features: Weight of the squared distance between rows of `similarity_matrix`, averaged over the batch and
            the ends of the body's stages and its output; 0 is off. The pupil must then have the same backbone.
        temperature: See `divergence`.

    Returns:
        A loss with the terms of `loss`, scaled by `1 - logits`, and `teacher` and `features` where they have weight.
    """
    taps = (*stage_ends(teacher.body, example_input(teacher)), "out") if features else ()

    def ask_teacher(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.inference_mode(), capture_taps(teacher.body, taps) as maps:
            target = teacher(resize_images(images, size))
            alike = {name: similarity_matrix(found) for name, found in maps.items()}
        # Cloned: a tensor of inference mode cannot take part in autograd.
        return target.clone(), {name: found.clone() for name, found in alike.items()}

    def blended_loss(learner: Any, batch: Any, progress: float) -> dict[str, Tensor]:
        pupil = OutputCapture(learner)
        no_maps: dict[str, Tensor] = {}
        with capture_taps(learner.body, taps) if taps else nullcontext(no_maps) as maps:
            terms = {k: (1 - logits) * v for k, v in loss(pupil, batch, progress).items()}
        target, alike = ask_teacher(batch[0])
        if logits:
            terms["teacher"] = logits * distance(teacher.output.kind, pupil.answer, target, temperature)
        if features:
            far = [(similarity_matrix(maps[name]) - alike[name]).square().sum(1).mean() for name in taps]
            terms["features"] = features * torch.stack(far).mean()
        return terms

    return blended_loss


class OutputCapture:
    """A learner whose last answer is remembered, so that a strategy's loss and its teacher's share one pass.

    Attributes:
        learner: Answers for everything else.
        answer: Logits `(B, C)`.
    """

    def __init__(self, learner: Any) -> None:
        self.learner = learner
        self.answer = torch.empty(0)

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to logits, and remember them."""
        self.answer = self.learner(images)
        return self.answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)


def frozen_copy(net: Net) -> Net:
    """Copy a network to be a teacher: in evaluation mode, without gradients, laid out as training does the pupil."""
    # Channels last like the pupil: another order of sums has other last bits.
    return deepcopy(net).eval().requires_grad_(False).to(memory_format=torch.channels_last)


def resize_images(images: Tensor, size: int) -> Tensor:
    """Scale images `(B, 3, S, S)` to another side, with antialiasing."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def distance(kind: str, raw: Tensor, target: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return how far outputs `(B, C)` are from a teacher's, by the kind of label.

    Single labels: `divergence`. Several: the binary cross-entropy of softened probabilities, times T^2. Numbers: the
    mean squared difference of standardised values, which has no temperature.
    """
    if kind == "value":
        return F.mse_loss(raw, target)
    if kind == "multi":
        soft = (target / temperature).sigmoid()
        return F.binary_cross_entropy_with_logits(raw / temperature, soft) * temperature**2
    return divergence(raw, target, temperature)


def divergence(logits: Tensor, target: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Kullback-Leibler divergence of softened outputs `(B, C)`, times T^2 so that its gradient keeps its size."""
    pupil = F.log_softmax(logits / temperature, 1)
    return (
        # T^2, as in Hinton et al., section 2: gradients of softened outputs shrink by 1 / T^2.
        F.kl_div(pupil, F.log_softmax(target / temperature, 1), log_target=True, reduction="batchmean") * temperature**2
    )


def similarity_matrix(features: Tensor) -> Tensor:
    """Give how alike a batch's images are: inner products `(B, B)` of features `(B, ...)`, each row of unit norm."""
    flat = features.flatten(1).float()
    return F.normalize(flat @ flat.mT, dim=1)
