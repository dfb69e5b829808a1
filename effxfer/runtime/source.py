"""What a model takes.

An image as a path, an image file's bytes or decoded; a text as a string, a pair or a file; a vector as numbers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.crop import graph_input, resize_crop
from effxfer.runtime.images.preprocess import ImageError, Preprocess, decode
from effxfer.runtime.inputs import Input
from effxfer.runtime.text import tokens
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.vectors.vectors import VectorRow, Vectors

if TYPE_CHECKING:
    from PIL import Image

Source = str | Path | bytes | NDArray[np.uint8] | NDArray[np.float32] | tuple[str, str] | list[str] | VectorRow


def name_of(source: Source, place: int, input: Input) -> str:
    """Name an example for errors: its path, or its number, counted from a `place` of 0."""
    if isinstance(source, VectorRow):
        return f"{source.file}:{source.row}"
    paths = (str, Path) if input.kind == "image" else (Path,)
    return str(source) if isinstance(source, paths) else f"{input.kind} {place + 1}"


def to_feed(source: Source, input: Input, *, keeps_size: bool = False) -> NDArray[Any]:
    """Decode one example for the input of a network.

    Args:
        source: An image, a text or a vector, as the input asks for.
        input: What the network takes.
        keeps_size: Whether an image is not resized, for a graph that itself resizes and crops.

    Returns:
        uint8 `(S, S, 3)`, or `(H, W, 3)` of its own size; ids of a text, int32 `(n,)`; a vector, float32 `(D,)`.

    Raises:
        ImageError: If it is not a usable image.
        TextError: If it is not a usable text.
        VectorError: If it is not a usable vector.
    """
    if isinstance(input, Vectors):
        return input.decode(source)
    if isinstance(input, tokens.Tokens):
        return input.decode(to_text(source))
    assert isinstance(input, Preprocess)
    return (graph_input if keeps_size else resize_crop)(to_image(source), input)


def to_image(source: Source) -> "Image.Image":
    """Decode an image, 8-bit RGB, or take it as it is.

    Args:
        source: A path, an image file's bytes, or a decoded image: uint8 `(H, W, 3)`, or `(H, W)` for grey.

    Raises:
        ImageError: If it is not an image, damaged, too large, a vector, or an array of another shape or type (`E301`).
    """
    if isinstance(source, bytes | str | Path):
        return decode(Path(source) if isinstance(source, str) else source)
    from PIL import Image

    array = np.asarray(source.values if isinstance(source, VectorRow) else source)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        problem = f"an array of {array.dtype} {array.shape} is not an image"
        raise ImageError(problem, "give uint8 (H, W, 3), or (H, W) for grey", code="E301")
    return Image.fromarray(array).convert("RGB")


def to_text(source: Source) -> tokens.Source:
    """Take a text, a pair of texts, a list of words, or a file or UTF-8 bytes of a text as it is.

    Raises:
        TextError: If it is an array (`E350`).
    """
    if isinstance(source, np.ndarray | VectorRow):
        raise TextError("an array is not a text", "give a string, a pair of strings, a path or bytes", code="E350")
    return source
