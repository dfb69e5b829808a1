"""Classify image files with an exported model, into plain values."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.image import ImageError, decode
from effxfer.runtime.model import Model, Prediction
from effxfer.runtime.support import learn, read_support


def predict_files(
    file: str | Path, images: Sequence[str | Path], *, support: str | Path | None = None, top: int = 1, threads: int = 0
) -> list[dict[str, Any]]:
    """Classify image files; give plain values, one row per file.

    Args:
        file: The `.onnx` file.
        images: Image files.
        support: A folder of class folders to classify into instead, as `read_support` takes it.
        top: Classes per image.
        threads: As in `Model`.

    Returns:
        Rows of `file`, `label`, `probability` and `top`, a list of `label` and `probability`.

    Raises:
        ModelError: As `Model`, and `learn` if there is support.
        ImageError: At the first file that is not a usable image, naming it.
    """
    model = Model(file, threads=threads)
    model = learn(model, read_support(support)) if support else model
    predictions = model.predict(_named(images), top=top)
    return [row_of(name, found) for name, found in zip(images, predictions, strict=True)]


def row_of(name: str | Path, found: Prediction) -> dict[str, Any]:
    """Give a prediction as plain values."""
    ranked = [{"label": label, "probability": round(share, 6)} for label, share in found.top]
    return {"file": str(name), **ranked[0], "top": ranked}


def _named(images: Iterable[str | Path]) -> Iterator[NDArray[np.uint8]]:
    for name in images:
        try:
            yield np.asarray(decode(Path(name)))
        except ImageError as error:
            raise ImageError(f"{name}: {error.problem}", error.hint, code=error.code) from None
