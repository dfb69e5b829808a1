"""Digests of files, remembered by size and time stamps, so that an unchanged folder is not read again."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from effxfer.errors import EffxferError, ResourceError, SettingsError
from effxfer.files import digest, read_sealed, write_sealed
from effxfer.progress import remark
from effxfer.runtime.images.formats import MAX_BYTES
from effxfer.runtime.reading import open_regular, read_stream, unfit_error
from effxfer.runtime.threads import allowed_cores, within_quota

VERSION = 2
TOO_FRESH_NS = 100_000_000
CHUNK = 64
LARGE = 4_000_000
Entries = dict[str, tuple[str, str]]
_forgone: set[Path] = set()
_unwritten: dict[Path, Entries] = {}


class Hashed(NamedTuple):
    """Digests by path, and the files that could not be read with the reason."""

    digests: dict[str, str]
    failures: dict[str, OSError]


def default_cache() -> Path:
    """Give `$EFFXFER_CACHE`, or `~/.cache/effxfer`; for a user without a home, a place that nobody can write to."""
    try:
        return Path(os.environ.get("EFFXFER_CACHE") or "~/.cache/effxfer").expanduser()
    except RuntimeError:
        return Path(os.devnull, "no-home")


def keep_outside(cache: Path, source: str, base: Path) -> None:
    """Refuse a cache inside a folder of images, where it would be taken for a class the next time.

    Raises:
        SettingsError: If it lies there.
    """
    root = base / Path(source).expanduser()
    if root.is_dir() and cache.absolute().resolve().is_relative_to(root.resolve()):
        text = f"the cache {cache} lies inside the data set {source}, where it would be taken for a class"
        raise SettingsError(text, "set EFFXFER_CACHE to a folder elsewhere", code="E211")


def forgo(cache: Path, error: Exception) -> None:
    """Say, once for each cache, that it cannot be written; without it, work is done again at the next start."""
    if cache not in _forgone:
        _forgone.add(cache)
        why = error.problem if isinstance(error, EffxferError) else str(error)
        remark(f"{why}: nothing is remembered for the next run; set EFFXFER_CACHE to a folder that can be written")


def cores() -> int:
    """Count the cores that this process may use."""
    return within_quota(len(allowed_cores()))


def content_digests(
    root: Path, paths: Sequence[str], cache: Path, workers: int | None = None, *, limit: int = MAX_BYTES
) -> Hashed:
    """Digest files, reading only those whose size, modification or change time differ from the last time.

    Args:
        root: Folder that `paths` are relative to.
        paths: Files; what is no regular file, or larger than the limit, is a failure.
        cache: Folder in which `index/` remembers digests.
        workers: Threads; None is one per core.
        limit: The most bytes that a file may have.
    """
    file = cache / "index" / f"{digest(str(root.resolve()))}.json"
    known = _load(file) or _unwritten.get(file, {})
    stamps, failures = _stamps(root, paths, limit)
    fresh = [path for path, stamp in stamps.items() if known.get(path, ("", ""))[0] != stamp]
    digests = {path: known[path][1] for path in stamps.keys() - set(fresh)}
    for path, found in zip(fresh, _parallel(lambda p: _digest(root / p, limit), fresh, workers), strict=True):
        if isinstance(found, OSError):
            failures[path] = found
        else:
            digests[path] = found
    if fresh or len(known) > 2 * len(stamps):
        _save(file, {path: (stamps[path], digests[path]) for path in stamps if path in digests})
    return Hashed(digests, failures)


def _parallel(
    task: Callable[[str], "str | OSError"], paths: Sequence[str], workers: int | None
) -> "Iterable[str | OSError]":
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(workers or cores()) as pool:
        for found in pool.map(lambda chunk: [task(path) for path in chunk], chunks):
            yield from found


def _digest(file: Path, limit: int) -> "str | OSError":
    try:
        with open_regular(file, limit) as stream:
            if os.fstat(stream.fileno()).st_size > LARGE:
                return hashlib.file_digest(stream, "sha256").hexdigest()
            return hashlib.sha256(read_stream(stream, limit)).hexdigest()
    except OSError as error:
        return error


def _stamps(root: Path, paths: Iterable[str], limit: int) -> tuple[dict[str, str], dict[str, OSError]]:
    stamps, base = dict[str, str](), f"{root}/"
    failures = dict[str, OSError]()
    for path in paths:
        try:
            facts = os.stat(base + path)  # noqa: PTH116 (a third of the time of pathlib on 60,000 files)
            if unfit := unfit_error(facts, limit):
                failures[path] = unfit
            else:
                stamps[path] = f"{facts.st_size} {facts.st_ino} {facts.st_mtime_ns} {facts.st_ctime_ns}"
        except OSError as error:
            failures[path] = error
    return stamps, failures


def _load(file: Path) -> Entries:
    raw = read_sealed(file)
    return {path: tuple(entry) for path, entry in raw["files"].items()} if raw and raw.get("v") == VERSION else {}


def _save(file: Path, entries: Entries) -> None:
    """Remember digests, except of files touched so recently that a second change may share their time stamp."""
    latest = time.time_ns() - TOO_FRESH_NS
    settled = {path: entry for path, entry in entries.items() if int(entry[0].rpartition(" ")[2]) < latest}
    try:
        write_sealed(file, {"v": VERSION, "files": settled})
    except (OSError, ResourceError) as error:
        forgo(file.parents[1], error)
        _unwritten[file] = settled
