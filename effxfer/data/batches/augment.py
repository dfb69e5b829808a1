"""Augment whole batches on the device: resized, padded or distorted crops, flip, colour, contours, blur, mixup, CutMix.

Every random number is drawn on the CPU from a generator that the caller seeds per batch, so a batch depends only on
its seed, not on the device or on earlier batches.

Shape legend: B batch, T side of the canvas, S side of the input.
"""

from math import radians
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from effxfer.data.batches.contours import draw_contours
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import Settings

DEVIATIONS = (0.1, 2.0)  # of blurs, in pixels: SimCLR's, for images of any size


class Augment(Settings):
    """Settings of augmentation.

    Attributes:
        crop: `resized` crops a random area and aspect (Szegedy et al., 2014, https://arxiv.org/abs/1409.4842);
            `padded` shifts by up to an eighth of the side, as is usual for CIFAR; `affine` turns, scales, shears and
            shifts a little, for drawings and signs (Koch et al., 2015, "Siamese Neural Networks for One-shot Image
            Recognition"); `none` uses the evaluation view.
        scale: Smallest area of a resized crop as a fraction of the image, in (0, 1]; 1 for the whole area.
        flip: Mirror left and right with probability one half.
        colour: Largest relative change of brightness, contrast and saturation, in [0, 1); 0 turns it off.
        grey: Probability of a grey image (Chen et al., 2020, https://arxiv.org/abs/2002.05709), in [0, 1]; 0 is off.
        contours: Probability of a drawing of the image's contours, in [0, 1]; 0 is off. For photographs, where a target
            domain has sketches.
        blur: Probability of a Gaussian blur, whose deviation is 0.1 to 2 pixels, as there, in [0, 1]; 0 is off.
        mixup: Alpha of mixup (Zhang et al., 2017, https://arxiv.org/abs/1710.09412); 0 turns it off.
        cutmix: Alpha of CutMix (Yun et al., 2019, https://arxiv.org/abs/1905.04899); 0 turns it off.
    """

    crop: Literal["resized", "padded", "affine", "none"] = "resized"
    # Chosen, not measured: 0.08 is ImageNet's from scratch; larger crops vary an image less, but miss the object less.
    scale: float = Field(default=0.35, gt=0, le=1)
    flip: bool = True
    colour: float = Field(default=0.0, ge=0, lt=1)
    grey: float = Field(default=0.0, ge=0, le=1)
    contours: float = Field(default=0.0, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)


def normalize(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Convert uint8 `(B, S, S, 3)` into the network's input: float32 `(B, 3, S, S)`, channels last in memory."""
    # One fused product and sum instead of three passes over the batch.
    scale = 1 / (255 * torch.tensor(preprocess.std, device=pixels.device))
    shift = -torch.tensor(preprocess.mean, device=pixels.device) / torch.tensor(preprocess.std, device=pixels.device)
    return torch.addcmul(shift, pixels.float(), scale).permute(0, 3, 1, 2)


def augment(pixels: Tensor, aspect: Tensor | None, size: int, settings: Augment, generator: Generator) -> Tensor:
    """Crop, flip, recolour, draw and blur a batch.

    Args:
        pixels: uint8 `(B, T, T, 3)`.
        aspect: Width over height before the image was squashed to a square, float32 `(B,)`; None for square images.
        size: Side S of the result.
        settings: Augmentation settings.
        generator: CPU generator.

    Returns:
        uint8 `(B, S, S, 3)`.
    """
    count = len(pixels)
    # Exact pixels: sampling by a grid would blur them.
    if settings.crop == "none":
        flipped = (
            torch.rand(count, generator=generator) < 0.5 if settings.flip else torch.zeros(count, dtype=torch.bool)
        )
        result = torch.where(flipped.to(pixels.device)[:, None, None, None], pixels.flip(2), pixels)
    elif settings.crop == "affine":
        theta = _draw_distortions(count, generator)
        if settings.flip:
            theta[:, 0] *= 1 - 2 * (torch.rand(count, 1, generator=generator) < 0.5).float()
        # Beyond the border its own colour, which is the paper's of a drawing.
        result = _sample(pixels, theta.to(pixels.device), size, "border")
    else:
        box = (
            _draw_crops(count, aspect, settings.scale, generator)
            if settings.crop == "resized"
            else _draw_shifts(count, size, generator)
        )
        if settings.flip:
            box[:, 2] *= 1 - 2 * (torch.rand(count, generator=generator) < 0.5).float()
        result = _sample_boxes(pixels, box.to(pixels.device), size)
    if settings.colour:
        result = _recolour(result, settings.colour, generator)
    if settings.grey:
        result = _turn_grey(result, settings.grey, generator)
    if settings.contours:
        result = _turn_to_contours(result, settings.contours, generator)
    return _blur(result, settings.blur, generator) if settings.blur else result


def mix_images(
    images: Tensor, labels: Tensor, classes: int, settings: Augment, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Blend each image `(B, 3, S, S)` with a partner from the batch; int64 labels `(B,)` become soft `(B, classes)`.

    Labels `(B, classes)` are blended as they are; what is unknown (NaN) in one of two images is unknown in their blend.
    If both alphas are set, each batch draws one of the two; if neither is, images and labels are unchanged.
    """
    if not settings.mixup and not settings.cutmix:
        return images, labels
    cut = bool(settings.cutmix) and (not settings.mixup or bool(torch.rand(1, generator=generator) < 0.5))
    alpha = settings.cutmix if cut else settings.mixup
    share = float(_draw_beta(alpha, generator))
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    if cut:
        images, share = _paste_boxes(images, images[partner], share, generator)
    else:
        images = images.lerp(images[partner], 1 - share)
    hard = F.one_hot(labels, classes).to(images.dtype) if labels.dim() == 1 else labels
    return images, hard * share + hard[partner] * (1 - share)


def _draw_crops(count: int, aspect: Tensor | None, scale: float, generator: Generator) -> Tensor:
    """Draw boxes (centre x, centre y, width, height) in units of the canvas, with random area and true aspect.

    The log-aspect is uniform in [ln 3/4, ln 4/3] (0.2877 = ln 4/3), as in torchvision's RandomResizedCrop.
    """
    area = torch.empty(count).uniform_(scale, 1, generator=generator)
    ratio = torch.empty(count).uniform_(-0.2877, 0.2877, generator=generator).exp()
    # On a squashed canvas, a box that is square in the image has this aspect.
    squash = torch.ones(count) if aspect is None else aspect.cpu().float()
    width = (area * ratio / squash).sqrt().clamp(max=1)
    height = (area / ratio * squash).sqrt().clamp(max=1)
    # Drawn last, so that any box lies wholly in the image.
    x, y = torch.rand(2, count, generator=generator)
    return torch.stack([(1 - width) * x + width / 2, (1 - height) * y + height / 2, width, height], 1)


def _draw_shifts(count: int, size: int, generator: Generator) -> Tensor:
    # 4 of 32 pixels, as is usual for CIFAR (He et al. 2016).
    reach = max(1, size // 8)
    move = torch.randint(-reach, reach + 1, (2, count), generator=generator) / size
    return torch.stack([0.5 + move[0], 0.5 + move[1], torch.ones(count), torch.ones(count)], 1)


def _sample_boxes(pixels: Tensor, box: Tensor, size: int) -> Tensor:
    """Sample boxes bilinearly; pixels outside the image are black."""
    x, y, width, height = box.unbind(1)
    zero = torch.zeros_like(x)
    theta = torch.stack([width, zero, 2 * x - 1, zero, height, 2 * y - 1], 1).view(-1, 2, 3)
    # Zeros outside, which are black: as torchvision's RandomCrop pads.
    return _sample(pixels, theta, size, "zeros")


def _draw_distortions(count: int, generator: Generator) -> Tensor:
    """Draw matrices `(B, 2, 3)` from the result to the image, in units of half the side.

    The ranges are those of Koch et al.: 10 degrees, scales from 0.8 to 1.2, shears of 0.3, and shifts of 2 of 28 pixels
    (they have 2 of 105); each of them is left out in half of the images.
    """
    reach = torch.tensor([radians(10), 0.2, 0.2, 0.3, 0.3, 1 / 7, 1 / 7])[:, None]
    drawn = (2 * torch.rand(7, count, generator=generator) - 1) * reach
    angle, wide, high, along, across, x, y = drawn * (torch.rand(7, count, generator=generator) < 0.5)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    stretch = torch.stack([1 + wide, along, across, 1 + high], 1).view(-1, 2, 2)
    return torch.cat([turn @ stretch, torch.stack([x, y], 1)[:, :, None]], 2)


def _sample(pixels: Tensor, theta: Tensor, size: int, padding: str) -> Tensor:
    """Sample bilinearly at `theta` `(B, 2, 3)`, see `affine_grid`; `padding` as of `grid_sample`."""
    grid = F.affine_grid(theta, [len(theta), 3, size, size], align_corners=False)
    images = pixels.permute(0, 3, 1, 2).float()
    sampled = F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    return sampled.round_().to(torch.uint8).permute(0, 2, 3, 1)


def _recolour(pixels: Tensor, strength: float, generator: Generator) -> Tensor:
    factors = torch.empty(3, len(pixels)).uniform_(1 - strength, 1 + strength, generator=generator)
    brightness, contrast, saturation = factors.to(pixels.device)[:, :, None, None, None]
    images = pixels.float() * brightness
    luma = _luma(images)
    images = images.lerp(luma[..., None], 1 - saturation)
    images = images.lerp(luma.mean((1, 2))[:, None, None, None], 1 - contrast)
    result: Tensor = images.clamp_(0, 255).round_().to(torch.uint8)
    return result


def _luma(images: Tensor) -> Tensor:
    # ITU-R BT.601, as in Pillow's conversion to grey.
    return images @ torch.tensor([0.299, 0.587, 0.114], device=images.device)


def _turn_grey(pixels: Tensor, probability: float, generator: Generator) -> Tensor:
    chosen = torch.rand(len(pixels), generator=generator).to(pixels.device) < probability
    luma = _luma(pixels.float()).round_().to(torch.uint8)
    return torch.where(chosen[:, None, None, None], luma[..., None], pixels)


def _turn_to_contours(pixels: Tensor, probability: float, generator: Generator) -> Tensor:
    chosen, drawings = draw_contours(_luma(pixels.float()), probability, generator)
    result = pixels.clone()
    result[chosen] = drawings[..., None]
    return result


def _blur(pixels: Tensor, probability: float, generator: Generator) -> Tensor:
    """Blur some images, each with a kernel of its own, first down and then across."""
    chosen = (torch.rand(len(pixels), generator=generator) < probability).nonzero()[:, 0]
    deviation = torch.empty(len(pixels)).uniform_(*DEVIATIONS, generator=generator)[chosen].to(pixels.device)
    if not len(chosen):
        return pixels
    side = pixels.shape[1]
    # A tenth of the side, as in SimCLR; odd, so that it has a middle, and no wider than reflection allows.
    reach = min(max(1, side // 20), side - 1)
    offsets = torch.arange(-reach, reach + 1, device=pixels.device)
    kernels = (-(offsets**2) / (2 * deviation[:, None] ** 2)).softmax(1).repeat_interleave(3, 0)
    images = pixels[chosen.to(pixels.device)].permute(0, 3, 1, 2).float().reshape(1, -1, side, side)
    images = F.pad(images, [reach] * 4, mode="reflect")
    images = F.conv2d(images, kernels[:, None, :, None], groups=len(kernels))
    images = F.conv2d(images, kernels[:, None, None, :], groups=len(kernels))
    result = pixels.clone()
    blurred = images.reshape(-1, 3, side, side).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    result[chosen.to(pixels.device)] = blurred
    return result


def _draw_beta(alpha: float, generator: Generator) -> Tensor:
    """Draw from Beta(alpha, alpha) with this generator; torch.distributions would use the global one."""
    share: Tensor = torch._sample_dirichlet(torch.tensor([alpha, alpha]), generator)[0]
    return share


def _paste_boxes(images: Tensor, partners: Tensor, share: float, generator: Generator) -> tuple[Tensor, float]:
    height, width = images.shape[-2:]
    side = (1 - share) ** 0.5
    # The box is centred anywhere and cut at the border, as in the authors' code; the share is that of what was pasted.
    y, x = (int(torch.randint(n, (1,), generator=generator)) for n in (height, width))
    top, bottom = max(0, y - int(side * height) // 2), min(height, y + int(side * height) // 2)
    left, right = max(0, x - int(side * width) // 2), min(width, x + int(side * width) // 2)
    images = images.clone()
    images[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)
