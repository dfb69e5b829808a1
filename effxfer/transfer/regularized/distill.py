"""Knowledge distillation from a teacher's logits, and from the similarities of images in its features.

Logits: Hinton et al., 2015 (https://arxiv.org/abs/1503.02531). Features: similarity-preserving distillation (Tung &
Mori, 2019, https://arxiv.org/abs/1907.09682). It compares the similarities between the images of a batch, at each stage
of the body. Widths, sizes and layouts of the maps may therefore differ, for example after channel pruning, and no
projection has to be trained and discarded.

Shape legend: B images, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from effxfer.net.net import Net
from effxfer.net.taps import capture_taps, example_input, stage_ends
from effxfer.train.losses import mean_over_words, span_logits
from effxfer.transfer.regularized.block_maps import map_distance

Loss = Callable[[Any, Any, float], Mapping[str, Tensor]]
TEMPERATURE = 2.0  # chosen: 4 was worse than labels alone in a measurement, with a smoothed teacher (64.8 against 76 %)


def blend_teacher_loss(
    loss: Loss, teacher: Net, *, logits: float, size: int, features: float = 0.0, temperature: float = TEMPERATURE,
    read: Callable[[Tensor], Tensor] | None = None, maps: float = 0.0,
    channels: Mapping[str, Sequence[int] | None] | None = None,
) -> Any:  # fmt: skip
    """Combine a strategy's loss with the distance to a teacher, which runs once per batch.

    Args:
        loss: Loss of a strategy whose batches are `(images, labels)`; it runs the student.
        teacher: Teacher in evaluation mode, on the student's device. Label smoothing removes information on class
            similarity from a teacher, which then distils best at temperature 1 (Müller et al., 2019,
            https://arxiv.org/abs/1906.02629).
        logits: Weight of the teacher's logits in the loss, in [0, 1]; 0 is off.
        size: Input side of the teacher in pixels; the student's images are scaled to it bilinearly, texts stay.
        features: Weight of the squared distance between rows of `similarity_matrix`, averaged over the batch, the
            stages of the body and its output; 0 is off. The student must then have the same backbone.
        temperature: See `divergence`.
        read: Function from the student's inputs to the teacher's, such as the same texts by another tokenizer; None
            passes texts on and scales images.
        maps: Weight of `map_distance`, averaged over the block ends of `channels`; 0 is off. The student must be a
            pruned copy of the teacher.
        channels: Result of `kept_channels` for the student.

    Returns:
        A loss with the terms of `loss`, scaled by `1 - logits`, plus `teacher`, `features` and `maps` if their weight
        is not 0.
    """
    similar = (*stage_ends(teacher.body, example_input(teacher)), "out") if features else ()
    channels = (channels or {}) if maps else {}
    taps = tuple(dict.fromkeys((*similar, *channels)))

    def pass_on(inputs: Tensor) -> Tensor:
        return inputs if teacher.input.kind == "text" else resize_images(inputs, size)

    def ask_teacher(inputs: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        # Not inference mode, whose tensors cannot take part in autograd: maps would have to be copied.
        with torch.no_grad(), capture_taps(teacher.body, taps) as outputs:
            readable = (read or pass_on)(inputs)
            target = teacher(readable)
            real = teacher.input.real(readable)
            similarities = {name: similarity_matrix(outputs[name], real) for name in similar}
        return target, similarities, {name: outputs[name] for name in channels}

    def blended_loss(learner: Any, batch: Any, progress: float) -> dict[str, Tensor]:
        student = OutputCapture(learner)
        none: dict[str, Tensor] = {}
        with capture_taps(learner.body, taps) if taps else nullcontext(none) as outputs:
            terms = {k: (1 - logits) * v for k, v in loss(student, batch, progress).items()}
        target, similarities, teacher_maps = ask_teacher(batch[0])
        if logits:
            terms["teacher"] = logits * distance(teacher.output.kind, student.answer, target, temperature, batch[1])
        if features:
            real = learner.input.real(batch[0])
            pairs = [(similarity_matrix(outputs[name], real), similarities[name]) for name in similar]
            distances = [(matrix - expected).square().sum(1).mean() for matrix, expected in pairs]
            terms["features"] = features * torch.stack(distances).mean()
        if channels:
            each = [map_distance(outputs[name], teacher_maps[name], positions) for name, positions in channels.items()]
            if values := [value for value in each if value is not None]:
                terms["maps"] = maps * torch.stack(values).mean()
        return terms

    return blended_loss


class OutputCapture:
    """Wraps a student and stores its last logits, so that a strategy's loss and the teacher's share one forward pass.

    Attributes:
        learner: The student, which provides all other attributes.
        answer: Logits `(B, C)` of the last call.
    """

    def __init__(self, learner: Any) -> None:
        self.learner = learner
        self.answer = torch.empty(0)

    def __call__(self, images: Tensor) -> Tensor:
        """Map images to logits, and store them."""
        self.answer = self.learner(images)
        return self.answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)


def frozen_copy(net: Net) -> Net:
    """Copy a network as a teacher: in evaluation mode, without gradients, in the student's memory format."""
    # Channels last like the student: another order of sums has other last bits.
    return deepcopy(net).eval().requires_grad_(False).to(memory_format=torch.channels_last)


def resize_images(images: Tensor, size: int) -> Tensor:
    """Scale images `(B, 3, S, S)` to another side in pixels, with antialiasing."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def distance(
    kind: str, raw: Tensor, target: Tensor, temperature: float = TEMPERATURE, labels: Tensor | None = None
) -> Tensor:
    """Return how far outputs `(B, C)` are from a teacher's, by the kind of label.

    Tags: `divergence` of each word, averaged over the words of a text, then over texts. Answers: `divergence` over the
    positions that a beginning or an end can have. `labels` are a batch's, and say which positions those are.

    Single labels: `divergence`. Several: the binary cross-entropy of softened probabilities, times T^2. Numbers: the
    mean squared difference of standardised values, which has no temperature.
    """
    if kind == "value":
        return F.mse_loss(raw, target)
    if kind == "multi":
        soft = (target / temperature).sigmoid()
        return F.binary_cross_entropy_with_logits(raw / temperature, soft) * temperature**2
    if kind == "tags" and labels is not None:
        soft = (target / temperature).log_softmax(2)
        each = F.kl_div((raw / temperature).log_softmax(2), soft, reduction="none", log_target=True).sum(2)
        return mean_over_words(each, labels) * temperature**2
    if kind == "span" and labels is not None:
        return divergence(span_logits(raw, labels), span_logits(target, labels), temperature)
    return divergence(raw, target, temperature)


def divergence(logits: Tensor, target: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the Kullback-Leibler divergence of softened logits `(B, C)`, times T^2 to keep the gradients' scale."""
    student = F.log_softmax(logits / temperature, 1)
    teacher = F.log_softmax(target / temperature, 1)
    # T^2 (Hinton et al., section 2): gradients of softened outputs shrink by 1 / T^2.
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2


def similarity_matrix(features: Tensor, real: Tensor | None = None) -> Tensor:
    """Return inner products `(B, B)` of a batch's features, with rows of unit norm.

    Args:
        features: Maps, tokens or features, `(B, ...)`.
        real: Positions of tokens `(B, n, D)` that are no padding, `(B, n)`; None for all.
    """
    if real is not None and features.dim() == 3:
        features = features * real[..., None]
    flat = features.flatten(1).float()
    return F.normalize(flat @ flat.mT, dim=1)
