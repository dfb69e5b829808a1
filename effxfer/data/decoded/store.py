"""Where decoded arrays are written: files of a folder, or, where none can be kept, unnamed files and memory."""

import os
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import ResourceError
from effxfer.files import reserve

MEMORY = Path("/proc/meminfo")
SHARE = 0.5


class Store:
    """Makes writable arrays; room for them is reserved first, so that a full disk is an error and no bus error.

    Args:
        folder: Where each becomes a file `NAME.DTYPE`; None leaves nothing behind.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.arrays = folder, dict[str, NDArray[Any]]()

    def create(self, name: str, shape: tuple[int, ...], dtype: str = "uint8") -> NDArray[Any]:
        """Make a writable array; `keep_rows` may cut it later.

        Raises:
            OSError: If the folder's disk is full.
            ResourceError: If there is no folder, and no room elsewhere.
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        self.arrays[name] = self._named(name, shape, dtype, size) if self.folder else _unnamed(shape, dtype, size)
        return self.arrays[name]

    def keep_rows(self, name: str, keep: NDArray[np.int64]) -> None:
        """Move the rows `keep` (ascending) of an array to its front, and cut what is behind them."""
        array = self.arrays[name]
        for place, row in enumerate(keep):
            if place != row:
                array[place] = array[row]
        if isinstance(array, np.memmap):
            array.flush()
        if self.folder:
            os.truncate(self.folder / f"{name}.{array.dtype}", len(keep) * array[:1].nbytes)
        self.arrays[name] = array[: len(keep)]

    def read_only(self) -> dict[str, NDArray[Any]]:
        """Give the arrays, which nobody can change any more."""
        for array in self.arrays.values():
            array.flags.writeable = False
        return self.arrays

    def _named(self, name: str, shape: tuple[int, ...], dtype: str, size: int) -> NDArray[Any]:
        with (self.folder or Path()).joinpath(f"{name}.{dtype}").open("w+b") as stream:
            reserve(stream, size)
            return np.memmap(stream, dtype, "r+", shape=shape) if size else np.zeros(shape, dtype)


def _unnamed(shape: tuple[int, ...], dtype: str, size: int) -> NDArray[Any]:
    """Make an array in a temporary file without a name, which ends with the process, or else in memory."""
    try:
        with TemporaryFile(prefix="effxfer-") as stream:
            reserve(stream, size)
            return np.memmap(stream, dtype, "r+", shape=shape) if size else np.zeros(shape, dtype)
    except OSError:
        if size > SHARE * free_memory():
            problem = (
                f"decoded images need {size / 1e6:.0f} MB, for which cache, temporary folder and memory have no room"
            )
            raise ResourceError(problem, "set EFFXFER_CACHE to a folder with more space") from None
        return np.zeros(shape, dtype)


def free_memory() -> int:
    """Count the bytes of memory that are free, or can be made so."""
    try:
        lines = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
