"""Cache decoded pixels on disk: raw memory-mapped uint8 arrays, complete or absent, rebuilt if altered.

An entry is a folder `KEY/` with a lock and a folder `arrays/` with one file per array and `manifest.json`. If all
entries together exceed `$EFFXFER_CACHE_GB`, or the disk is full, the least recently used entries are evicted; a process
that has mapped one can go on reading it. Without write access, an entry lives as long as its process.

Each use checks the manifest's digest and, for every file, its size, inode, mtime and ctime in nanoseconds. The kernel
sets the ctime, and no program can set it back. Pixels are digested only if one of these differs, for example in a
copied cache: reading gigabytes at every start would take longer than the work itself. Corruption by a failing disk,
without a write, is therefore not detected; remove the entry's folder to rebuild it.
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
from effxfer.data.sources.file_hashes import warn_unwritable
from effxfer.errors import LockedError, ResourceError, SettingsError
from effxfer.files import read_sealed, remove_abandoned, sha256, write_directory, write_sealed
from effxfer.process.folder_lock import lock_folder

# For the manifest, and for blocks of the file system that are filled in part.
HEADROOM = 1.1
FORMAT = 2  # entries of another layout are made anew
MANIFEST = "manifest.json"
# Chosen: decoding takes seconds to minutes, so the wait after its end does not matter.
WAIT_SECONDS = 0.2
# About 58,000 training images of 224 px, which take 0.35 MB each with their canvas.
LIMIT_GB = 20.0
# A task and its target.
MAX_PRIVATE = 2


class Entry(NamedTuple):
    """A complete entry.

    Attributes:
        arrays: By name; memory-mapped, read-only.
        facts: Further results of the builder, as JSON types.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


Build = Callable[[Store], dict[str, Any]]
Fits = Callable[[Entry], bool]
_private_entries: OrderedDict[Path, Entry] = OrderedDict()


def open_or_build(folder: Path, needed: int, build: Build, fits: Fits = lambda _entry: True) -> Entry:
    """Open the entry in `folder`, and build it if it is absent, incomplete or altered.

    A second process waits for the first one's result. If the folder cannot be written or has no room, the entry is
    private to this process, in unnamed temporary files or in memory.

    Args:
        folder: The entry's folder, named after its key.
        needed: Bytes that the entry takes.
        build: Fills a store and returns `Entry.facts`.
        fits: Whether an existing entry has the shapes that `build` would produce.

    Raises:
        ResourceError: If no place has room for `needed` bytes.
        SettingsError: If `$EFFXFER_CACHE_GB` is not a number.
    """
    # Without the lock, which would make a second reader wait.
    max_bytes, entry = size_limit(), read_entry(folder / "arrays", fits)
    if entry is not None:
        with suppress(OSError):  # a read-only cache works, too
            # Marks the use, for eviction: access times are off on many disks (noatime).
            os.utime(folder)
        return entry
    if folder in _private_entries:
        return _private_entries[folder]
    try:
        return _build_on_disk(folder, needed, max_bytes, build, fits)
    except (OSError, ResourceError) as error:
        warn_unwritable(folder.parents[1], error)
        return _build_private(folder, build)


def _build_on_disk(folder: Path, needed: int, max_bytes: float, build: Build, fits: Fits) -> Entry:
    """Build an entry in its folder, unless another process did so meanwhile."""
    with ExitStack() as lock:
        _acquire_lock(folder, lock)
        entry = read_entry(folder / "arrays", fits)
        if entry is None:
            # Before the room is measured: what a killed writer left takes space.
            remove_abandoned(folder)
            _make_room(folder, needed, max_bytes)
            _check_space(folder, needed)
            with write_directory(folder / "arrays") as scratch:
                # The manifest last, with the state of files that are complete.
                store = Store(scratch)
                _write_manifest(store, scratch, build(store))
            entry = read_entry(folder / "arrays", fits)
    if entry is None:
        raise ResourceError(
            f"the cache in {folder} changed while it was written", "set EFFXFER_CACHE to another folder"
        )
    return entry


def _build_private(folder: Path, build: Build) -> Entry:
    """Build an entry that is private to this process; only the last few are retained."""
    store = Store()
    facts = build(store)
    _private_entries[folder] = Entry(store.read_only(), facts)
    while len(_private_entries) > MAX_PRIVATE:
        _private_entries.popitem(last=False)
    return _private_entries[folder]


def read_entry(arrays: Path, fits: Fits = lambda _entry: True) -> Entry | None:
    """Open an entry; None if it is absent, incomplete, altered, or does not fit.

    If a file's state differs (a copied or edited file), its digest is checked and its new state recorded.
    """
    manifest = read_sealed(arrays / MANIFEST)
    try:
        if manifest["format"] != FORMAT:
            return None
        opened = {Path(name).stem: _map_array(arrays / name, facts) for name, facts in manifest["files"].items()}
        mapped = {name: array for name, array in opened.items() if array is not None}
        entry = Entry(mapped, manifest["facts"])
        complete = len(mapped) == len(opened) and fits(entry)
        states = {name: {**facts, "state": _state(arrays / name)} for name, facts in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if complete and states != manifest["files"]:
        with suppress(OSError, ResourceError):
            write_sealed(arrays / MANIFEST, {**manifest, "files": states})
    return entry if complete else None


def _state(file: Path) -> list[int]:
    """Return values that differ after any change of a file: size, inode, mtime and ctime in nanoseconds."""
    facts = file.stat()
    return [facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns]


def _map_array(file: Path, facts: dict[str, Any]) -> NDArray[Any] | None:
    state = _state(file)
    # The size first: a truncated file needs no digest.
    if state[0] != facts["state"][0] or (state != facts["state"] and sha256(file) != facts["sha256"]):
        return None
    dtype, row = file.suffix[1:], tuple(facts["row"])
    if not state[0]:
        # An empty file cannot be mapped.
        return np.zeros((0, *row), dtype)
    return np.memmap(file, dtype, "r").reshape(-1, *row)


def _write_manifest(store: Store, scratch: Path, built: dict[str, Any]) -> None:
    files = {
        file.name: {"state": _state(file), "sha256": sha256(file), "row": list(store.arrays[file.stem].shape[1:])}
        for file in sorted(scratch.iterdir())
    }
    write_sealed(scratch / MANIFEST, {"format": FORMAT, "files": files, "facts": built})


def _acquire_lock(folder: Path, lock: ExitStack) -> None:
    while True:
        try:
            lock.enter_context(lock_folder(folder))
        except LockedError:
            time.sleep(WAIT_SECONDS)
        else:
            return


def size_limit() -> float:
    """Return the bytes that all entries together may take: `$EFFXFER_CACHE_GB` in GB, 20 by default."""
    text = os.environ.get("EFFXFER_CACHE_GB") or LIMIT_GB
    try:
        size = float(text) * 1e9
    except ValueError:
        size = -1.0
    if not size >= 0:
        raise SettingsError(f"EFFXFER_CACHE_GB is {text!r}", "give a number of GB")
    return size


def _make_room(folder: Path, needed: int, max_bytes: float) -> None:
    """Evict the least recently used entries until another one of `needed` bytes fits.

    Other processes may do so at the same time. Entries in use and links are not removed.
    """
    entries = [entry for entry in folder.parent.iterdir() if entry != folder and not entry.is_symlink()]
    sizes = {entry: size for entry in entries if (size := _entry_bytes(entry))}
    total = sum(sizes.values())
    for entry in sorted(sizes, key=lambda entry: entry.stat().st_mtime_ns):
        if total + needed <= max_bytes and shutil.disk_usage(folder).free >= needed * HEADROOM:
            return
        # Under its lock, so that nobody is writing it; who has mapped it goes on reading.
        with suppress(LockedError, ResourceError), lock_folder(entry):
            shutil.rmtree(entry / "arrays", ignore_errors=True)
        # What is left, where it was in use.
        total -= sizes[entry] - _entry_bytes(entry)


def _entry_bytes(entry: Path) -> int:
    try:
        return sum(file.stat().st_size for file in (entry / "arrays").iterdir())
    except OSError:  # no entry, or another process is removing it
        return 0


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed * HEADROOM:
        problem = f"decoded images need {needed / 1e6:.0f} MB in {folder}, {free / 1e6:.0f} MB are free"
        raise ResourceError(problem, "set EFFXFER_CACHE to a folder with more space")
