"""Digest files, and cache the digests by size and time stamps, so that an unchanged folder is not read again."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from effxfer.data.sources.image_bytes import read_image_bytes, stamp_of
from effxfer.data.sources.shards.tar_index import split_path
from effxfer.errors import EffxferError, ResourceError, SettingsError
from effxfer.files import digest, read_sealed, write_sealed
from effxfer.progress import remark
from effxfer.runtime.images.formats import MAX_BYTES
from effxfer.runtime.reading import open_regular, read_stream
from effxfer.runtime.threads import usable_logical_cores

# Of the index: an older one is read anew.
VERSION = 2
# Kernels stamp files at their clock tick, 10 ms at 100 Hz: two writes within it have the same time.
MIN_AGE_NS = 100_000_000
# Chosen: a task of some milliseconds, so that handing it to a thread costs little.
CHUNK = 64
# Larger files are digested in pieces, smaller ones in one read, which saves calls on many photographs.
LARGE = 4_000_000
Entries = dict[str, tuple[str, str]]
_unwritable: set[Path] = set()
_unwritten: dict[Path, Entries] = {}


class Hashed(NamedTuple):
    """Digests by path, and the files that could not be read with the reason."""

    digests: dict[str, str]
    failures: dict[str, OSError]


def default_cache() -> Path:
    """Return `$EFFXFER_CACHE` or `~/.cache/effxfer`; for a user without a home directory, an unwritable path."""
    try:
        return Path(os.environ.get("EFFXFER_CACHE") or "~/.cache/effxfer").expanduser()
    except RuntimeError:
        return Path(os.devnull, "no-home")


def require_cache_outside(cache: Path, source: str, base: Path) -> None:
    """Refuse a cache inside a folder of images, where the next run would read it as a class.

    Raises:
        SettingsError: If the cache lies inside.
    """
    root = base / Path(source).expanduser()
    if root.is_dir() and cache.absolute().resolve().is_relative_to(root.resolve()):
        text = f"the cache {cache} lies inside the data set {source}, which would read it as a class"
        raise SettingsError(text, "set EFFXFER_CACHE to a folder elsewhere", code="E211")


def warn_unwritable(cache: Path, error: Exception) -> None:
    """Print, once for each cache, that it cannot be written, so the next run repeats the work."""
    if cache not in _unwritable:
        _unwritable.add(cache)
        reason = error.problem if isinstance(error, EffxferError) else str(error)
        remark(f"{reason}: nothing is cached for the next run; set EFFXFER_CACHE to a writable folder")


def content_digests(
    root: Path, paths: Sequence[str], cache: Path, workers: int | None = None, *, limit: int = MAX_BYTES
) -> Hashed:
    """Digest files, reading only those whose size, inode, mtime or ctime changed since the last run.

    Args:
        root: Folder that `paths` are relative to.
        paths: Files; irregular ones, and ones larger than the limit, are failures.
        cache: Cache folder; its `index/` holds the digests.
        workers: Threads; None for one per core.
        limit: Largest size of a file in bytes.
    """
    # One index for each root, under the name of its real path.
    file = cache / "index" / f"{digest(str(root.resolve()))}.json"
    cached = _load(file) or _unwritten.get(file, {})
    stamps, failures = _read_stamps(root, paths, limit)
    changed = [path for path, stamp in stamps.items() if cached.get(path, ("", ""))[0] != stamp]
    digests = {path: cached[path][1] for path in stamps.keys() - set(changed)}
    for path, result in zip(changed, _parallel(lambda p: _hash_image(root, p, limit), changed, workers), strict=True):
        if isinstance(result, OSError):
            failures[path] = result
        else:
            digests[path] = result
    # Or where most of the index is of files that are gone.
    if changed or len(cached) > 2 * len(stamps):
        _save(file, {path: (stamps[path], digests[path]) for path in stamps if path in digests})
    return Hashed(digests, failures)


def _parallel(
    task: Callable[[str], "str | OSError"], paths: Sequence[str], workers: int | None
) -> "Iterable[str | OSError]":
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(workers or usable_logical_cores()) as pool:
        for results in pool.map(lambda chunk: [task(path) for path in chunk], chunks):
            yield from results


def _hash_image(root: Path, path: str, limit: int) -> "str | OSError":
    if split_path(root, path) is None:
        return _hash_file(root / path, limit)
    try:
        return hashlib.sha256(read_image_bytes(root, path, limit)).hexdigest()
    except OSError as error:
        return error


def _hash_file(file: Path, limit: int) -> "str | OSError":
    try:
        with open_regular(file, limit) as stream:
            if os.fstat(stream.fileno()).st_size > LARGE:
                return hashlib.file_digest(stream, "sha256").hexdigest()
            return hashlib.sha256(read_stream(stream, limit)).hexdigest()
    except OSError as error:
        return error


def _read_stamps(root: Path, paths: Iterable[str], limit: int) -> tuple[dict[str, str], dict[str, OSError]]:
    stamps, failures = dict[str, str](), dict[str, OSError]()
    for path in paths:
        try:
            stamps[path] = stamp_of(root, path, limit)
        except OSError as error:
            failures[path] = error
    return stamps, failures


def _load(file: Path) -> Entries:
    raw = read_sealed(file)
    return {path: tuple(entry) for path, entry in raw["files"].items()} if raw and raw.get("v") == VERSION else {}


def _save(file: Path, entries: Entries) -> None:
    """Save digests, except of files changed so recently that another change could have the same time stamp."""
    # At the time of saving: a file that was written after it was read has a newer stamp.
    latest = time.time_ns() - MIN_AGE_NS
    stable = {path: entry for path, entry in entries.items() if int(entry[0].rpartition(" ")[2]) < latest}
    try:
        write_sealed(file, {"v": VERSION, "files": stable})
    except (OSError, ResourceError) as error:
        warn_unwritable(file.parents[1], error)
        _unwritten[file] = stable
