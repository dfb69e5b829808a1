"""Classify image files with an exported model, into plain values."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model import Model, Prediction
from effxfer.runtime.support import learn, read_support

BATCH = 32


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
        Rows of `file`, `label`, `probability` and `top`, a list of `label` and `probability`; of a file that is no
        usable image `file` and `error`.

    Raises:
        ModelError: As `Model`, and `learn` if there is support; if an answer is no number.
        ImageError: If the support cannot be used.
    """
    model = Model(file, threads=threads)
    model = learn(model, read_support(support)) if support else model
    return list(answers(model, images, top=top))


def answers(
    model: Model, images: Iterable[str | Path], *, top: int = 1, batch: int = BATCH
) -> Iterator[dict[str, Any]]:
    """Classify image files a batch at a time.

    Args:
        model: Opened.
        images: Image files.
        top: Classes per image.
        batch: Images per call.

    Yields:
        Rows as `predict_files` gives them, in the order of the images.

    Raises:
        ModelError: If the file does not run, or an answer is no number.
    """
    iterator = iter(images)
    while chunk := list(islice(iterator, batch)):
        feeds, rows = dict[int, NDArray[np.uint8]](), dict[int, dict[str, Any]]()
        for place, name in enumerate(chunk):
            try:
                feeds[place] = model.feed(Path(name))
            except ImageError as error:
                rows[place] = {"file": str(name), "error": str(error)}
        if feeds:
            shares = model.shares(list(feeds.values()), [str(chunk[place]) for place in feeds])
            found = zip(feeds, shares, strict=True)
            rows |= {place: row_of(chunk[place], model.rank(share, top)) for place, share in found}
        yield from (rows[place] for place in range(len(chunk)))


def row_of(name: str | Path, found: Prediction) -> dict[str, Any]:
    """Give a prediction as plain values."""
    ranked = [{"label": label, "probability": round(share, 6)} for label, share in found.top]
    return {"file": str(name), **ranked[0], "top": ranked}
