"""Arrays of equal rows end to end, without a copy: those of several data sets stay mapped from their caches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class JoinedArray:
    """Rows of several arrays `(N, ...)` as if they were one; a selection is read from each and copied, as from a file.

    Args:
        parts: Arrays of one type with equal rows, or what was joined of such; at least one.
    """

    def __init__(self, parts: "Sequence[NDArray[Any] | JoinedArray]") -> None:
        self.parts: list[NDArray[Any]] = []
        for part in parts:
            self.parts += part.parts if isinstance(part, JoinedArray) else [part]
        self._ends = np.cumsum([len(part) for part in self.parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *self.parts[0].shape[1:])
        self.dtype = self.parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(part.nbytes for part in self.parts)

    def __getitem__(self, selection: Any, /) -> NDArray[Any]:
        """Select rows by a slice, by indices `(M,)` in this order, or by a mask `(N,)`; the result is a copy.

        Raises:
            IndexError: If an index is out of range.
        """
        rows = self._positions(selection)
        places = np.searchsorted(self._ends, rows, side="right")
        result = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, part in enumerate(self.parts):
            chosen = places == place
            result[chosen] = part[rows[chosen] - (self._ends[place] - len(part))]
        return result

    def _positions(self, selection: Any) -> NDArray[np.int64]:
        if not (isinstance(selection, np.ndarray) and selection.dtype.kind in "iu"):
            rows: NDArray[np.int64] = np.arange(len(self))[selection]
            return rows
        # A batch of a million rows should not take time in proportion to the million.
        if len(selection) and not -len(self) <= selection.min() <= selection.max() < len(self):
            raise IndexError(f"rows {selection.min()} to {selection.max()} of {len(self)}")
        return np.where(selection < 0, selection + len(self), selection).astype(np.int64)
