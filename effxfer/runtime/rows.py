"""Rows of a split: examples decoded once, in an array of equal rows, or end to end where their lengths differ."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """Decoded examples: an array `(N, ...)`, or `Ragged` where they differ in length."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, selection: Any, /) -> "Rows":
        """Select rows by a slice, by indices `(M,)` or by a mask `(N,)`."""


def concat_rows(parts: Sequence[Any]) -> Any:
    """Join rows end to end: arrays of equal rows into one, `Ragged` ones into one.

    Args:
        parts: `Rows` of one kind, at least one.
    """
    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)
    lengths = np.concatenate([part.lengths for part in parts])
    values = [part.values[part.starts[0] : part.ends[-1]] for part in parts if len(part)]
    return Ragged(np.concatenate(values or [parts[0].values[:0]]), np.cumsum(lengths, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different length, end to end: row i is `values[ends[i - 1] : ends[i]]`.

    Attributes:
        values: All rows, `(total, ...)`; usually memory-mapped.
        ends: Where each row ends, int64 `(N,)`, not decreasing, from 0 to `total`; rows may be empty.

    Raises:
        ValueError: If `ends` does not fit `values`.
    """

    values: NDArray[Any]
    ends: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.ends.dtype != np.int64 or self.ends.ndim != 1 or not self.values.ndim:
            raise ValueError(f"ends are {self.ends.dtype} {self.ends.shape}, not int64 (N,)")
        if len(self.ends) and (self.ends[0] < 0 or self.ends[-1] > len(self.values) or (np.diff(self.ends) < 0).any()):
            raise ValueError(f"ends are no ascending positions in {len(self.values)} values")

    @classmethod
    def of(cls, rows: Iterable[NDArray[Any]], dtype: Any = np.int32) -> "Ragged":
        """Join rows, each `(n, ...)` and of the same type; `dtype` is that of no rows at all."""
        arrays = list(rows)
        values = np.concatenate(arrays) if arrays else np.zeros(0, dtype)
        return cls(values, np.cumsum([len(row) for row in arrays], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.row(i) for i in range(len(self)))

    def __getitem__(self, selection: Any, /) -> "Ragged":
        """Select rows by a slice, by indices `(M,)` in this order, or by a mask `(N,)`.

        Raises:
            IndexError: If an index is out of range, or a single number: `row` returns one row.
        """
        if isinstance(selection, slice) and selection.step in (None, 1):
            return self._stretch(*selection.indices(len(self))[:2])
        indices = self._positions(selection)
        starts = np.where(indices > 0, self.ends[indices - 1], 0)
        lengths = self.ends[indices] - starts
        ends = np.cumsum(lengths, dtype=np.int64)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        return Ragged(self.values[places], ends)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each row begins, int64 `(N,)`."""
        return np.concatenate([np.zeros(min(1, len(self)), np.int64), self.ends[:-1]])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each row, int64 `(N,)`."""
        return self.ends - self.starts

    def row(self, index: int) -> NDArray[Any]:
        """Return one row, `(n, ...)`, as a view.

        Raises:
            IndexError: If there is no such row.
        """
        end = self.ends[index]
        position = index % len(self)
        return self.values[self.ends[position - 1] if position else 0 : end]

    def pad(self, fill: int) -> NDArray[Any]:
        """Return the rows as one array `(N, longest of these rows, ...)`, filled up behind each row."""
        lengths = self.lengths
        longest = int(lengths.max(initial=0))
        out = np.full((len(self), longest, *self.values.shape[1:]), fill, self.values.dtype)
        first = int(self.starts[0]) if len(self) else 0
        out[np.arange(longest) < lengths[:, None]] = self.values[first : int(self.ends[-1]) if len(self) else 0]
        return out

    def _positions(self, selection: Any) -> NDArray[np.int64]:
        """Return the rows of a selection by their positions from 0, `(M,)`."""
        if isinstance(selection, np.ndarray) and selection.dtype.kind in "iu" and selection.ndim == 1:
            self.ends[selection]  # raises IndexError
            # A batch of a million rows should not take time in proportion to the million.
            from_start: NDArray[np.int64] = selection.astype(np.int64) % max(1, len(self))
            return from_start
        positions: NDArray[np.int64] = np.arange(len(self))[selection]
        if not positions.ndim:
            raise IndexError("a single row is no Ragged: call row")
        return positions

    def _stretch(self, start: int, stop: int) -> "Ragged":
        """Return successive rows without a copy of their values."""
        ends = self.ends[start:stop]
        first = int(self.ends[start - 1]) if start and len(ends) else 0
        return Ragged(self.values[first : int(ends[-1]) if len(ends) else 0], ends - first)


def map_batches(
    rows: Rows, batch: int, function: Callable[[Any], NDArray[np.float32]], width: int
) -> NDArray[np.float32]:
    """Run a function over examples, a batch at a time; its results come in the order of the examples.

    Examples of unequal length are sorted by length before, so that a batch is padded little.

    Args:
        rows: N examples.
        batch: Examples per call.
        function: Maps a batch of rows to results `(B, C)`.
        width: C, for no examples at all.

    Returns:
        float32 `(N, C)`; of results per position, `(B, n, C)`, those of all rows as `join_results` puts them together.
    """
    if not len(rows):
        return np.empty((0, width), np.float32)
    starts = range(0, len(rows), batch)
    if not isinstance(rows, Ragged):
        return np.concatenate([function(rows[start : start + batch]) for start in starts])
    order = np.argsort(rows.lengths, kind="stable")
    results = [function(rows[order[start : start + batch]]) for start in starts]
    return join_results(results, rows.lengths[order])[np.argsort(order)]


def join_results(results: Sequence[NDArray[np.float32]], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Join the results of batches of rows of unequal length.

    Args:
        results: `(B, C)` each; or per position `(B, n, C)`, of different n.
        lengths: Length of each row `(N,)`, in the order of the results.

    Returns:
        `(N, C)`; or `(N, longest row, C)` with zeros behind each row, where a network gives anything.
    """
    if results[0].ndim != 3:
        return np.concatenate(results)
    joined = np.zeros((len(lengths), int(lengths.max(initial=0)), results[0].shape[2]), np.float32)
    start = 0
    for result in results:
        width = min(result.shape[1], joined.shape[1])
        joined[start : start + len(result), :width] = result[:, :width]
        start += len(result)
    joined[np.arange(joined.shape[1]) >= lengths[:, None]] = 0
    return joined
