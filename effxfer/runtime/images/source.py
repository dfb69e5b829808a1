"""What a model classifies: a path, an image file's bytes, or a decoded image."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.preprocess import ImageError, decode

if TYPE_CHECKING:
    from PIL import Image

Source = str | Path | bytes | NDArray[np.uint8]


def name_of(source: Source, place: int) -> str:
    """Name an image for errors: its path, or its number, counted from a `place` of 0."""
    return str(source) if isinstance(source, str | Path) else f"image {place + 1}"


def to_image(source: Source) -> "Image.Image":
    """Decode an image, 8-bit RGB, or take it as it is.

    Args:
        source: A path, an image file's bytes, or a decoded image: uint8 `(H, W, 3)`, or `(H, W)` for grey.

    Raises:
        ImageError: If it is not an image, damaged, too large, or an array of another shape or type (`E301`).
    """
    if isinstance(source, bytes | str | Path):
        return decode(Path(source) if isinstance(source, str) else source)
    from PIL import Image

    array = np.asarray(source)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        problem = f"an array of {array.dtype} {array.shape} is not an image"
        raise ImageError(problem, "give uint8 (H, W, 3), or (H, W) for grey", code="E301")
    return Image.fromarray(array).convert("RGB")
