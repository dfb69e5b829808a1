"""Decoded pixels on disk: raw uint8 arrays, memory-mapped, complete or absent, redone if altered.

One entry is a folder `KEY/` with a lock, and in it `arrays/` with one file per array and `manifest.json`. When all
entries together are larger than `$EFFXFER_CACHE_GB`, or the disk is full, those that were not used for longest leave; a
process that still reads one keeps what it mapped.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import LockedError, ResourceError, SettingsError
from effxfer.files import locked, sha256, sweep, write_directory

FORMAT = 1
WAIT_SECONDS = 0.2
LIMIT_GB = 20.0


class Entry(NamedTuple):
    """A complete entry.

    Attributes:
        arrays: By name; memory-mapped, read-only.
        facts: What the builder wanted to remember, as JSON types.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def open_or_build(folder: Path, needed: int, build: Callable[[Path], dict[str, Any]]) -> Entry:
    """Give the entry in `folder`, building it if it is absent, incomplete or altered.

    A second process waits for the first one's result instead of building its own.

    Args:
        folder: The entry's place, named after its key.
        needed: Bytes that building takes.
        build: Fills a scratch folder through `create` and gives what `Entry.facts` holds.

    Raises:
        ResourceError: If the disk has less than 1.1 x `needed` bytes free, or cannot be written.
        SettingsError: If `$EFFXFER_CACHE_GB` is not a number.
    """
    entry = read(folder / "arrays")
    if entry is not None:
        with suppress(OSError):  # a cache that is only read is as good
            os.utime(folder)
        return entry
    with ExitStack() as held:
        _wait_for(folder, held)
        entry = read(folder / "arrays")
        if entry is None:
            sweep(folder)
            _make_room(folder, needed, limit())
            _check_space(folder, needed)
            with write_directory(folder / "arrays") as scratch:
                _finish(scratch, build(scratch))
            entry = read(folder / "arrays")
    if entry is None:
        raise ResourceError(f"the cache in {folder} changed while it was written", "give another cache folder")
    return entry


def create(scratch: Path, name: str, shape: tuple[int, ...], dtype: str = "uint8") -> NDArray[Any]:
    """Make a writable array in a scratch folder; `shrink` may cut it later."""
    if not np.prod(shape):
        (scratch / f"{name}.{dtype}").touch()
        return np.zeros(shape, dtype)
    return np.memmap(scratch / f"{name}.{dtype}", dtype, "w+", shape=shape)


def keep_rows(array: NDArray[Any], keep: NDArray[np.int64], scratch: Path, name: str) -> None:
    """Move the rows `keep` (ascending) of an array made by `create` to its front, and cut its file behind them."""
    for place, row in enumerate(keep):
        if place != row:
            array[place] = array[row]
    if isinstance(array, np.memmap):
        array.flush()
    os.truncate(scratch / f"{name}.{array.dtype}", len(keep) * array[:1].nbytes)


def read(arrays: Path) -> Entry | None:
    """Open an entry, or give None if it is absent, incomplete or altered.

    Sizes and time stamps are checked; where a time stamp differs (a copied or edited file), its digest is.
    """
    try:
        manifest = json.loads((arrays / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            return None
        opened = {Path(name).stem: _open(arrays / name, facts) for name, facts in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if any(a is None for a in opened.values()) else Entry(opened, manifest["facts"])  # type: ignore[arg-type]


def _open(file: Path, facts: dict[str, Any]) -> NDArray[Any] | None:
    state = file.stat()
    if state.st_size != facts["bytes"]:
        return None
    if state.st_mtime_ns != facts["mtime_ns"] and sha256(file) != facts["sha256"]:
        return None
    dtype, row = file.suffix[1:], tuple(facts["row"])
    if not state.st_size:
        return np.zeros((0, *row), dtype)
    return np.memmap(file, dtype, "r").reshape(-1, *row)


def _finish(scratch: Path, built: dict[str, Any]) -> None:
    rows = built.pop("rows")
    files = {
        file.name: {
            "bytes": file.stat().st_size,
            "mtime_ns": file.stat().st_mtime_ns,
            "sha256": sha256(file),
            "row": list(rows[file.stem]),
        }
        for file in sorted(scratch.iterdir())
    }
    (scratch / "manifest.json").write_text(json.dumps({"format": FORMAT, "files": files, "facts": built}))


def _wait_for(folder: Path, held: ExitStack) -> None:
    while True:
        try:
            held.enter_context(locked(folder))
        except LockedError:
            time.sleep(WAIT_SECONDS)
        else:
            return


def limit() -> float:
    """Bytes that all entries together may take: `$EFFXFER_CACHE_GB` in GB, 20 if it is not set."""
    told = os.environ.get("EFFXFER_CACHE_GB") or LIMIT_GB
    try:
        found = float(told) * 1e9
    except ValueError:
        found = -1.0
    if not found >= 0:
        raise SettingsError(f"EFFXFER_CACHE_GB is {told!r}", "give a number of GB")
    return found


def _make_room(folder: Path, needed: int, most: float) -> None:
    """Let the entries leave that were not used for longest, until another one of `needed` bytes fits.

    Others may do the same at the same time; what is in use, or is not ours to remove, stays.
    """
    others = [entry for entry in folder.parent.iterdir() if entry != folder]
    sizes = {entry: size for entry in others if (size := _bytes(entry))}
    total = sum(sizes.values())
    for entry in sorted(sizes, key=lambda entry: entry.stat().st_mtime_ns):
        if total + needed <= most and shutil.disk_usage(folder).free >= needed * 1.1:
            return
        with suppress(LockedError, ResourceError), locked(entry):
            shutil.rmtree(entry / "arrays", ignore_errors=True)
        total -= sizes[entry] - _bytes(entry)


def _bytes(entry: Path) -> int:
    try:
        return sum(file.stat().st_size for file in (entry / "arrays").iterdir())
    except OSError:  # no entry, or one that another process removes right now
        return 0


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed * 1.1:
        problem = f"decoded images need {needed / 1e6:.0f} MB in {folder}, {free / 1e6:.0f} MB are free"
        raise ResourceError(problem, "set EFFXFER_CACHE to a folder with more space")
