"""Batches of rows of like length, which need little padding; a function of (seed, epoch) only.

Shape legend: N rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
# Enough for rows of like length, and few enough that rows of any length follow one another.
STRETCH = 50


class LengthOrder(NamedTuple):
    """An order by length, and the way back.

    Attributes:
        order: Indices of the rows, the longest first, so that a lack of memory shows at once; int64 `(N,)`.
        inverse: Position of each row in `order`: `results[inverse]` are the results in the rows' own order.
    """

    order: Indices
    inverse: Indices


def bucketed_batches(lengths: Indices, size: int, seed: int, epoch: int, stretch: int = STRETCH) -> list[Indices]:
    """Return the batches of an epoch: shuffle the rows, sort within stretches, shuffle the batches.

    Args:
        lengths: Length of each row, int64 `(N,)`.
        size: Rows of a batch.
        seed: Seed of the training, at least 0.
        epoch: Number of the epoch, from 0.
        stretch: Batches in which rows are sorted; 1 is a plain shuffle.

    Returns:
        Indices of the rows of each batch; every row occurs once. If the rows are no multiple of `size`, the last batch
        is smaller, of rows drawn at random, so that a trainer that drops it drops no length in particular.
    """
    rng = np.random.default_rng([seed, epoch])
    return bucket_rows(rng.permutation(len(lengths)), lengths, size, rng, stretch)


def bucket_rows(
    shuffled: Indices, lengths: Indices, size: int, rng: np.random.Generator, stretch: int = STRETCH
) -> list[Indices]:
    """Return batches of rows of like length: sort within stretches of shuffled rows, and shuffle the batches.

    Args:
        shuffled: Indices of rows in random order, in which a row may be absent or occur several times.
        lengths: Length of each row, int64 `(N,)`.
        size: Rows of a batch.
        rng: Draws the order of the batches.
        stretch: Batches in which rows are sorted.
    """
    remainder, full = np.split(shuffled, [len(shuffled) % size])
    batches = list[Indices]()
    for start in range(0, len(full), size * stretch):
        rows = full[start : start + size * stretch]
        by_length = rows[np.argsort(lengths[rows], kind="stable")]
        batches += np.split(by_length, range(size, len(rows), size))
    mixed = [batches[i] for i in rng.permutation(len(batches))]
    return [*mixed, remainder] if len(remainder) else mixed


def length_order(lengths: Indices) -> LengthOrder:
    """Order rows by their length, for evaluation.

    >>> order, inverse = length_order(np.array([2, 9, 5]))
    >>> order.tolist(), order[inverse].tolist()
    ([1, 2, 0], [0, 1, 2])
    """
    order = np.argsort(-lengths, kind="stable")
    return LengthOrder(order, np.argsort(order, kind="stable"))


def padding_share(lengths: Indices, batches: Sequence[Indices]) -> float:
    """Return the share of padding in batches that are padded to their longest row, in [0, 1)."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches if len(batch))
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded if padded else 0.0
