"""From a decoded image to the square that a network sees: timm's three evaluation views, with pillow alone."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.preprocess import Preprocess, filter_of

if TYPE_CHECKING:
    from PIL import Image

LARGEST_RESIZE = 64_000_000


def resize_crop(image: "Image.Image", preprocess: Preprocess) -> NDArray[np.uint8]:
    """Resize, crop the centre and pad, as `Preprocess.crop` says: timm's evaluation transforms, pixel for pixel.

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
    if width * height > LARGEST_RESIZE:  # of an extremely long image, resize only what is kept
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
    canvas = Image.new("RGB", (size, size), padding_colour(preprocess))
    canvas.paste(image, (pad_left, pad_top))
    return np.asarray(canvas)


def passable(image: "Image.Image", preprocess: Preprocess) -> NDArray[np.uint8]:
    """Give an image to a graph that resizes by itself: as it is, unless it is so long that resizing it takes gigabytes.

    Args:
        image: 8-bit RGB of any size.
        preprocess: The graph's.

    Returns:
        uint8 `(H, W, 3)`; of an extremely long image the centre, resized already.
    """
    width, height = resized_sides(image.width, image.height, preprocess)
    if width * height <= LARGEST_RESIZE:
        return np.asarray(image)
    return resize_crop(image, replace(preprocess, size=resized_side(preprocess), crop_pct=1.0))


def resized_side(preprocess: Preprocess) -> int:
    """Give the side in pixels that images are resized to before the centre is cropped: the shorter, both, the longer.

    >>> resized_side(Preprocess(size=224, crop_pct=0.875))
    256
    """
    return math.floor(preprocess.size / preprocess.crop_pct)


def resized_sides(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """Give width and height of an image in pixels after resizing, before the crop; at least 1 each.

    >>> [resized_sides(400, 100, Preprocess(size=32, crop=crop)) for crop in ("center", "squash", "letterbox")]
    [(128, 32), (32, 32), (32, 8)]
    """
    side = resized_side(preprocess)
    if preprocess.crop == "squash":
        return side, side
    if preprocess.crop == "letterbox":
        longer = max(width, height)
        return max(1, _rounded(width * side, longer)), max(1, _rounded(height * side, longer))
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def padding_colour(preprocess: Preprocess) -> tuple[int, int, int]:
    """Give the colour beside a letterboxed image, in [0, 255]: the mean, which the network sees as (almost) zero."""
    red, green, blue = (round(255 * value) for value in preprocess.mean)
    return red, green, blue


def border(preprocess: Preprocess) -> tuple[int, ...]:
    """Give the colour that pixels depend on: none where nothing is padded."""
    return padding_colour(preprocess) if preprocess.crop == "letterbox" else ()


def _rounded(product: int, divisor: int) -> int:
    """Divide and round, halves to even, in whole numbers: a graph and a page must come to the same."""
    quotient, rest = divmod(product, divisor)
    return quotient + (2 * rest > divisor or (2 * rest == divisor and quotient % 2))


def _span(side: int, size: int) -> tuple[int, int, int]:
    """Give the first pixel of a side that is kept, the one after the last, and the pixels of padding before it."""
    if side < size:
        return 0, side, (size - side) // 2
    start = round((side - size) / 2.0)
    return start, start + size, 0
