"""Texts that show what an export fixed by mistake: batches of unequal lengths, lengths far from the example's."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.model_file.metadata import LENGTHS
from effxfer.runtime.rows import Ragged, Rows

# Below and above the 16 tokens that a network is traced with; 33 is odd, and one more than a multiple of 8.
SAMPLE_LENGTHS = (8, 33)


def text_samples(rows: Ragged, batches: Sequence[int], size: int) -> dict[str, Ragged]:
    """Select texts to compare a file with its network on.

    Args:
        rows: Ids of a split; at least one text.
        batches: Batch sizes.
        size: Most tokens of a text.

    Returns:
        `batchB`: B texts of unequal lengths; `lengthL`: a text of L tokens and one of half as many, for L of 8, 33
        and `size`, none longer than `size`.
    """
    longest = rows.row(int(rows.lengths.argmax()))
    lengths = dict.fromkeys(min(length, size) for length in (*SAMPLE_LENGTHS, size))
    samples = {f"batch{batch}": unequal_texts(rows, batch) for batch in batches}
    return samples | {
        f"length{length}": Ragged.of([resize(longest, length), resize(longest, max(1, length // 2))])
        for length in lengths
    }


def length_metadata(rows: Rows | None) -> Mapping[str, str]:
    """Return the metadata that say at which lengths a file is timed; nothing for others than texts.

    Args:
        rows: Of the validation split.
    """
    lengths = typical_lengths(rows)
    return {LENGTHS: json.dumps(lengths)} if lengths else {}


def typical_lengths(rows: Rows | None) -> list[int]:
    """Return the median and the 95th percentile of the lengths of texts; nothing for other rows."""
    if not isinstance(rows, Ragged) or not len(rows):
        return []
    # Lengths that texts really have, and not means of two.
    lengths: list[int] = np.percentile(rows.lengths, [50, 95], method="higher").astype(int).tolist()
    return lengths


def unequal_texts(rows: Ragged, count: int) -> Ragged:
    """Return texts whose lengths are spread over those of a split; where all are equal, every second one is halved.

    Args:
        rows: At least one text; repeated where there are fewer than `count`.
        count: Texts.
    """
    order = np.argsort(rows.lengths, kind="stable")
    # The middle of equal stretches: a single text is the median one.
    places = ((np.arange(count) + 0.5) * len(rows) / count).astype(np.int64)
    chosen = rows[order[places]]
    if count == 1 or len(np.unique(chosen.lengths)) > 1:
        return chosen
    return Ragged.of([resize(row, max(1, len(row) // (1 + i % 2))) for i, row in enumerate(chosen)])


def resize(row: NDArray[np.int32], length: int) -> NDArray[np.int32]:
    """Cut a text `(n,)` to a length, or repeat its tokens; its last token stays the last one."""
    result = np.resize(row[:-1] if len(row) > 1 else row, length)
    result[-1] = row[-1]
    return result
