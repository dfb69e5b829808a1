"""Allocate arrays for decoded pixels: files in a folder, or unnamed temporary files or memory without one."""

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
# Chosen: training needs the other half.
MEMORY_SHARE = 0.5


class Store:
    """Allocates writable arrays; disk space is reserved first, so a full disk raises an error instead of SIGBUS.

    Args:
        folder: Folder for a file `NAME.DTYPE` per array; None for unnamed files or memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.arrays = folder, dict[str, NDArray[Any]]()

    def create(self, name: str, shape: tuple[int, ...], dtype: str = "uint8") -> NDArray[Any]:
        """Create a writable array; `keep_rows` may shorten it later.

        Raises:
            OSError: If the folder's disk is full.
            ResourceError: If there is no folder, and neither the temporary folder nor memory has room.
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        self.arrays[name] = (
            self._create_file(name, shape, dtype, size) if self.folder else _create_unnamed(shape, dtype, size)
        )
        return self.arrays[name]

    def keep_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        """Move rows of an array, by ascending indices, to its front, and truncate it behind them."""
        array = self.arrays[name]
        # Ascending: a row is never written over before it was moved.
        for target, row in enumerate(rows):
            if target != row:
                array[target] = array[row]
        if isinstance(array, np.memmap):
            array.flush()
        if self.folder:
            # The file under a mapped array may shrink: only the rows in front are read from here on.
            os.truncate(self.folder / f"{name}.{array.dtype}", len(rows) * array[:1].nbytes)
        self.arrays[name] = array[: len(rows)]

    def read_only(self) -> dict[str, NDArray[Any]]:
        """Make the arrays read-only, and return them."""
        for array in self.arrays.values():
            array.flags.writeable = False
        return self.arrays

    def _create_file(self, name: str, shape: tuple[int, ...], dtype: str, size: int) -> NDArray[Any]:
        with (self.folder or Path()).joinpath(f"{name}.{dtype}").open("w+b") as stream:
            reserve(stream, size)
            return np.memmap(stream, dtype, "r+", shape=shape) if size else np.zeros(shape, dtype)


def _create_unnamed(shape: tuple[int, ...], dtype: str, size: int) -> NDArray[Any]:
    """Create an array in an unnamed temporary file, which vanishes with the process, or in memory."""
    try:
        with TemporaryFile(prefix="effxfer-") as stream:
            reserve(stream, size)
            return np.memmap(stream, dtype, "r+", shape=shape) if size else np.zeros(shape, dtype)
    except OSError:
        if size > MEMORY_SHARE * free_memory():
            problem = (
                f"decoded images need {size / 1e6:.0f} MB: cache, temporary folder and memory have no room for them"
            )
            raise ResourceError(problem, "set EFFXFER_CACHE to a folder with more space") from None
        return np.zeros(shape, dtype)


def free_memory() -> int:
    """Return the bytes of available memory."""
    try:
        lines = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        # No /proc (macOS): half of the memory, a guess at what is free.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
