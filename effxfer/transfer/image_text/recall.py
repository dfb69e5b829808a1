"""Retrieval between images and captions: recall at k, in both directions; numpy only.

Shape legend: N images, M different captions, E numbers of an embedding.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from effxfer.report import Measurement

RANKS = (1, 5)


def recall_rows(
    images: NDArray[np.float32], texts: NDArray[np.float32], captions: Sequence[Sequence[int]], name: str
) -> tuple[Measurement, ...]:
    """Return `recall@K/image to text/NAME` and `recall@K/text to image/NAME`, see `recalls`."""
    every, counts = recalls(images, texts, captions), {"image to text": len(images), "text to image": len(texts)}
    of = {"image to text": "images", "text to image": "different captions"}
    return tuple(
        Measurement(name=f"recall@{k}/{way}/{name}", value=value, unit="%", n=counts[way], of=of[way])
        for (k, way), value in every.items()
    )


def recalls(
    images: NDArray[np.float32], texts: NDArray[np.float32], captions: Sequence[Sequence[int]]
) -> Mapping[tuple[int, str], float]:
    """Measure recall, in percent, by rank and direction.

    Args:
        images: Embeddings of length 1, `(N, E)`.
        texts: Embeddings of the different captions, of length 1, `(M, E)`.
        captions: Rows of `texts` that are captions of each image; any of them is right, and so is any image of a text.

    Returns:
        `(1, "image to text")` and so on: the share of images with a right text among the K nearest, and of texts with a
        right image among the K nearest. K is `RANKS`, and at most what there is.
    """
    right = np.zeros((len(images), len(texts)), bool)
    for row, places in enumerate(captions):
        right[row, list(places)] = True
    cosines = images @ texts.T
    return {
        (k, way): 100 * float(_hits(scores, correct, k).mean())
        for k in RANKS
        for way, scores, correct in (("image to text", cosines, right), ("text to image", cosines.T, right.T))
    }


def _hits(scores: NDArray[np.float32], right: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """Return for each row whether a right column is among the K with the largest scores; NaN is never near."""
    scores = np.nan_to_num(scores, nan=-np.inf)
    k = min(k, scores.shape[1])
    nearest = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.asarray(np.take_along_axis(right, nearest, 1).any(1))
