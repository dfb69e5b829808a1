"""Classify image files with an exported model; the results are plain values."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model import BATCH, Model, Prediction
from effxfer.runtime.support import learn, read_support


def predict_files(
    file: str | Path, images: Sequence[str | Path], *, support: str | Path | None = None, top: int = 1, threads: int = 0
) -> list[dict[str, Any]]:
    """Classify image files into rows of plain values, one per file.

    Args:
        file: The `.onnx` file.
        images: Image files.
        support: A folder of class folders: classify into these classes instead of the model's own.
        top: Classes per image.
        threads: Threads within an operator; 0 for one per physical core.

    Returns:
        Rows of `file`, `label`, `probability` and `top`, a list of `label` and `probability`; rows of unusable images
        have only `file` and `error`.

    Raises:
        ModelError: If the model cannot be opened or run, does not take other classes, or returns NaN or infinity.
        ImageError: If the support cannot be used.
    """
    model = Model(file, threads=threads)
    model = learn(model, read_support(support)) if support else model
    return list(iter_predictions(model, images, top=top))


def iter_predictions(
    model: Model, images: Iterable[str | Path], *, top: int = 1, batch: int = BATCH
) -> Iterator[dict[str, Any]]:
    """Classify image files a batch at a time.

    Args:
        model: The opened model.
        images: Image files.
        top: Classes per image.
        batch: Images per call.

    Yields:
        Rows of `predict_files`, in the order of the images.

    Raises:
        ModelError: If the model cannot be run, or returns NaN or infinity.
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
            probabilities = model.probabilities_of(list(feeds.values()), [str(chunk[place]) for place in feeds])
            results = zip(feeds, probabilities, strict=True)
            rows |= {place: to_row(chunk[place], model.rank(result, top)) for place, result in results}
        yield from (rows[place] for place in range(len(chunk)))


def to_row(name: str | Path, prediction: Prediction) -> dict[str, Any]:
    """Convert a prediction into plain values."""
    # Six places: float32 has seven digits, of which the last differs between CPUs.
    ranked = [{"label": label, "probability": round(probability, 6)} for label, probability in prediction.top]
    return {"file": str(name), **ranked[0], "top": ranked}
