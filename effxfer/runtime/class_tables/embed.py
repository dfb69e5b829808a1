"""Embeddings of images and of texts by files that share a space, without torch.

A file with a cosine head compares an example with the rows that it is given. With the rows of the identity and of its
negative, logits differ in twice the numbers of the example's own embedding, times a scale that its length 1 removes.
Differences of logits are those of logarithms of probabilities, so that a graph of whole images serves as well.

Shape legend: N examples, E numbers of an embedding.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.model import Model
from effxfer.runtime.model_file.metadata import ModelError
from effxfer.runtime.rows import Rows
from effxfer.runtime.source import Source

TINY = 1e-37  # float32 has no smaller normal numbers by much


def embed(model: Model, sources: Sequence[Source]) -> NDArray[np.float32]:
    """Embed images or texts by an exported tower of a dual encoder.

    Args:
        model: The file of one tower.
        sources: Examples as for `Model.predict`; at least one.

    Returns:
        float32 `(N, E)`, each row of length 1; products with rows of the other tower are cosines.

    Raises:
        ModelError: If the file compares with no class embeddings (`E428`), or cannot be run.
        ImageError: If one of them is not a usable image.
        TextError: If one of them is not a usable text.
    """
    return _embeddings(_with_axes(model).outputs(sources), model)


def embed_rows(model: Model, rows: Rows) -> NDArray[np.float32]:
    """Embed decoded examples in the file's input shape, float32 `(N, E)`; N may be 0."""
    return _embeddings(_with_axes(model).logits(rows), model)


def _with_axes(model: Model) -> Model:
    """Return a model whose classes are the axes of its space, and their opposites."""
    width = model.embedding_length
    if not width:
        text = f"{model.path} has no space of embeddings"
        raise ModelError(text, "export the result of `effxfer clip`", code="E428")
    axes = np.eye(width, dtype=np.float32)
    return model.with_classes(np.concatenate([axes, -axes]), [str(row) for row in range(2 * width)], calibration=0.0)


def _embeddings(outputs: NDArray[np.float32], model: Model) -> NDArray[np.float32]:
    logits = np.log(np.maximum(outputs, TINY)) if model.with_preprocessing else outputs
    width = model.embedding_length
    rows = logits[:, :width] - logits[:, width:]
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY), np.float32)


def embed_groups(file: str | Path, groups: Sequence[Sequence[str]], *, threads: int = 0) -> list[list[float]]:
    """Embed groups of texts or of image files by a file: the mean of each group, of length 1, as plain values.

    Args:
        file: The `.onnx` file of one tower.
        groups: Texts, such as the prompts of a class, or paths of images; none is empty.
        threads: Threads within an operator; 0 for one per physical core.

    Raises:
        ModelError: As `embed`.
        ImageError: As `embed`.
        TextError: As `embed`.
    """
    model = Model(file, threads=threads)
    sources = [text if model.input.kind == "text" else Path(text) for group in groups for text in group]
    rows, start, means = embed(model, sources), 0, list[NDArray[np.float32]]()
    for group in groups:
        mean = rows[start : start + len(group)].mean(0)
        means.append(mean / max(float(np.linalg.norm(mean)), TINY))
        start += len(group)
    return [mean.astype(float).tolist() for mean in means]
