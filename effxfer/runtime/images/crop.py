"""Resize and crop a decoded image to a network's square input: timm's three evaluation transforms, with pillow only."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.preprocess import Preprocess, filter_of

if TYPE_CHECKING:
    from PIL import Image

# As many pixels as an image may have by default (192 MB of RGB): 20,000 x 10 px on 224 would be 448,000 x 224.
LARGEST_RESIZE = 64_000_000


def resize_crop(image: "Image.Image", preprocess: Preprocess) -> NDArray[np.uint8]:
    """Resize, crop the centre and pad according to `Preprocess.crop`, with the pixels of timm's evaluation transforms.

    Args:
        image: 8-bit RGB of any size.
        preprocess: `size`, `crop_pct`, `crop`, `interpolation`, and `mean` for padding are used.

    Returns:
        uint8 `(size, size, 3)`.
    """
    from PIL import Image

    size, resample = preprocess.size, filter_of(preprocess.interpolation)
    width, height = resized_sides(image.width, image.height, preprocess)
    (left, right, pad_left), (top, bottom, pad_top) = _span(width, size), _span(height, size)
    if width * height > LARGEST_RESIZE:  # resize only the cropped part of an extremely long image
        scale_x, scale_y = image.width / width, image.height / height
        box = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
        image = image.resize((right - left, bottom - top), resample, box=box)
    else:
        if (width, height) != image.size:
            image = image.resize((width, height), resample)
        if (right - left, bottom - top) != image.size:
            image = image.crop((left, top, right, bottom))
    if image.size == (size, size):
        return np.asarray(image)
    canvas = Image.new("RGB", (size, size), preprocess.padding_colour())
    canvas.paste(image, (pad_left, pad_top))
    return np.asarray(canvas)


def graph_input(image: "Image.Image", preprocess: Preprocess) -> NDArray[np.uint8]:
    """Convert an image for a graph that resizes by itself; crop an extremely long one, whose resizing takes gigabytes.

    Args:
        image: 8-bit RGB of any size.
        preprocess: The preprocessing inside the graph.

    Returns:
        uint8 `(H, W, 3)`; for an extremely long image the resized centre.
    """
    width, height = resized_sides(image.width, image.height, preprocess)
    if width * height <= LARGEST_RESIZE:
        return np.asarray(image)
    return resize_crop(image, replace(preprocess, size=resized_side(preprocess), crop_pct=1.0))


def resized_side(preprocess: Preprocess) -> int:
    """Return the resized side in pixels before the crop: the shorter one, both (squash), or the longer one (letterbox).

    >>> resized_side(Preprocess(size=224, crop_pct=0.875))
    256
    """
    # Cut off, as timm does.
    return math.floor(preprocess.size / preprocess.crop_pct)


def resized_sides(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """Return width and height of an image in pixels after resizing and before the crop; at least 1 each.

    >>> [resized_sides(400, 100, Preprocess(size=32, crop=crop)) for crop in ("center", "squash", "letterbox")]
    [(128, 32), (32, 32), (32, 8)]
    """
    side = resized_side(preprocess)
    if preprocess.crop == "squash":
        return side, side
    if preprocess.crop == "letterbox":
        longer = max(width, height)
        return max(1, _divide_and_round(width * side, longer)), max(1, _divide_and_round(height * side, longer))
    if width <= height:
        # Cut off and not rounded, as torchvision's Resize computes the longer side.
        return side, int(side * height / width)
    return int(side * width / height), side


def _divide_and_round(product: int, divisor: int) -> int:
    """Divide and round half to even in integer arithmetic, which exported graphs and web pages compute equally."""
    quotient, remainder = divmod(product, divisor)
    return quotient + (2 * remainder > divisor or (2 * remainder == divisor and quotient % 2))


def _span(side: int, size: int) -> tuple[int, int, int]:
    """Return start and end of the cropped pixels of a side, and the pixels of padding before them."""
    if side < size:
        return 0, side, (size - side) // 2
    # Half to even, as torchvision's CenterCrop rounds.
    start = round((side - size) / 2.0)
    return start, start + size, 0
