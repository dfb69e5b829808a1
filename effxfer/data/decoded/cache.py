"""Decoded pixels on disk: raw uint8 arrays, memory-mapped, complete or absent, made again if altered.

One entry is a folder `KEY/` with a lock, and in it `arrays/` with one file per array and `manifest.json`. When all
entries together are larger than `$EFFXFER_CACHE_GB`, or the disk is full, those that were not used for longest leave; a
process that still reads one keeps what it mapped. Where nothing can be written, an entry lives as long as its process.

What is checked on each use: the manifest's own digest, that its numbers agree, and of every file its size, its inode
and when it was written or changed in any way, down to the nanosecond. The kernel sets the latter (ctime), and no
program can set it back. Only where one of these differs, as in a copied cache, are the pixels digested: reading
gigabytes at every start would take longer than what the start is for. What a failing disk alters by itself, without a
write, is therefore not found; remove the entry's folder to have it made again.
"""

import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.data.decoded.store import Store
from effxfer.data.sources.file_hashes import forgo
from effxfer.errors import LockedError, ResourceError, SettingsError
from effxfer.files import locked, read_sealed, sha256, sweep, write_directory, write_sealed

FORMAT = 2
MANIFEST = "manifest.json"
WAIT_SECONDS = 0.2
LIMIT_GB = 20.0
HELD = 2


class Entry(NamedTuple):
    """A complete entry.

    Attributes:
        arrays: By name; memory-mapped, read-only.
        facts: What the builder wanted to remember, as JSON types.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


Build = Callable[[Store], dict[str, Any]]
Fits = Callable[[Entry], bool]
_held: OrderedDict[Path, Entry] = OrderedDict()


def open_or_build(folder: Path, needed: int, build: Build, fits: Fits = lambda _entry: True) -> Entry:
    """Give the entry in `folder`, building it if it is absent, incomplete or altered.

    A second process waits for the first one's result instead of building its own. Where the folder cannot be written,
    or has no room, the entry is held by this process alone, in unnamed temporary files or in memory.

    Args:
        folder: The entry's place, named after its key.
        needed: Bytes that building takes.
        build: Fills a store and gives what `Entry.facts` holds.
        fits: Whether an entry that was found is of the shape that `build` would give.

    Raises:
        ResourceError: If there is no room for `needed` bytes anywhere.
        SettingsError: If `$EFFXFER_CACHE_GB` is not a number.
    """
    most, entry = limit(), read(folder / "arrays", fits)
    if entry is not None:
        with suppress(OSError):  # a cache that is only read is as good
            os.utime(folder)
        return entry
    if folder in _held:
        return _held[folder]
    try:
        return _kept(folder, needed, most, build, fits)
    except (OSError, ResourceError) as error:
        forgo(folder.parents[1], error)
        return _unkept(folder, build)


def _kept(folder: Path, needed: int, most: float, build: Build, fits: Fits) -> Entry:
    """Build an entry in its folder, unless another process did so meanwhile."""
    with ExitStack() as held:
        _wait_for(folder, held)
        entry = read(folder / "arrays", fits)
        if entry is None:
            sweep(folder)
            _make_room(folder, needed, most)
            _check_space(folder, needed)
            with write_directory(folder / "arrays") as scratch:
                store = Store(scratch)
                _finish(store, scratch, build(store))
            entry = read(folder / "arrays", fits)
    if entry is None:
        raise ResourceError(
            f"the cache in {folder} changed while it was written", "set EFFXFER_CACHE to another folder"
        )
    return entry


def _unkept(folder: Path, build: Build) -> Entry:
    """Build an entry for this process alone, which keeps the last few of such."""
    store = Store()
    facts = build(store)
    _held[folder] = Entry(store.read_only(), facts)
    while len(_held) > HELD:
        _held.popitem(last=False)
    return _held[folder]


def read(arrays: Path, fits: Fits = lambda _entry: True) -> Entry | None:
    """Open an entry, or give None if it is absent, incomplete, altered, or does not fit.

    Where a file is not as it was left (a copied or edited file), its digest is checked, and its state noted anew.
    """
    manifest = read_sealed(arrays / MANIFEST)
    try:
        if manifest["format"] != FORMAT:
            return None
        opened = {Path(name).stem: _open(arrays / name, facts) for name, facts in manifest["files"].items()}
        found = {name: array for name, array in opened.items() if array is not None}
        entry = Entry(found, manifest["facts"])
        whole = len(found) == len(opened) and fits(entry)
        states = {name: {**facts, "state": _state(arrays / name)} for name, facts in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if whole and states != manifest["files"]:
        with suppress(OSError, ResourceError):
            write_sealed(arrays / MANIFEST, {**manifest, "files": states})
    return entry if whole else None


def _state(file: Path) -> list[int]:
    """What differs after any change of a file: size, inode, and when it was written and changed, in nanoseconds."""
    facts = file.stat()
    return [facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns]


def _open(file: Path, facts: dict[str, Any]) -> NDArray[Any] | None:
    state = _state(file)
    if state[0] != facts["state"][0] or (state != facts["state"] and sha256(file) != facts["sha256"]):
        return None
    dtype, row = file.suffix[1:], tuple(facts["row"])
    if not state[0]:
        return np.zeros((0, *row), dtype)
    return np.memmap(file, dtype, "r").reshape(-1, *row)


def _finish(store: Store, scratch: Path, built: dict[str, Any]) -> None:
    files = {
        file.name: {"state": _state(file), "sha256": sha256(file), "row": list(store.arrays[file.stem].shape[1:])}
        for file in sorted(scratch.iterdir())
    }
    write_sealed(scratch / MANIFEST, {"format": FORMAT, "files": files, "facts": built})


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

    Others may do the same at the same time; what is in use, or is not ours, as what a link leads to, stays.
    """
    others = [entry for entry in folder.parent.iterdir() if entry != folder and not entry.is_symlink()]
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
