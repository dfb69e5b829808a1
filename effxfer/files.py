"""Durable writes: atomic files and directories, digests, journals.

A visible file is complete: it is written under a temporary name beside its path, flushed to the disk, and renamed.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from effxfer import progress
from effxfer.errors import ResourceError
from effxfer.runtime.reading import open_regular, read_regular

# Hidden, so that walks of data and globs pass it by; by the process number in it `remove_abandoned` knows its writer.
PARTIAL = ".effxfer-partial-"
# No name that a user is likely to choose: `remove_abandoned` splits at it.
REPLACED = "-~replaced~-"
# Chosen, not measured: 16 GB of weights; 2 GB of cached lists, which are read whole.
LARGEST, LARGEST_SEALED = 2**34, 2**31
OUT_HINT = "give another `out`"
SEALED = '{"sha256":"%s","content":'


def sha256(file: Path) -> str:
    """Digest a regular file's bytes, in hexadecimal.

    Raises:
        OSError: If it cannot be read; `UnfitFileError` if it is a named pipe, a device or larger than 16 GB.
    """
    with open_regular(file, LARGEST) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: object, length: int = 16) -> str:
    """Digest a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]  # 64 bits: two of 200,000 keys agree once in 1e9


def write_atomic(file: Path, write: bytes | str | Callable[[Path], object]) -> Path:
    """Replace `file` by new content, or leave it unchanged.

    Args:
        file: The file; its folder is created.
        write: The content, or a function that writes it to a path.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written; the old file is intact.
    """
    with name_disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because a rename is atomic within one file system only.
        scratch = file.with_name(f"{PARTIAL}{os.getpid()}-{file.name}")
        try:
            if callable(write):
                write(scratch)
            else:
                scratch.write_bytes(write if isinstance(write, bytes) else write.encode(errors="backslashreplace"))
            # Before the rename: else a power cut may leave an empty file of the new name (delayed allocation of ext4).
            _flush(scratch)
            scratch.replace(file)
            # The rename itself is on the disk only when the folder is (fsync(2)).
            _flush(file.parent)
        finally:
            # What `write` left when it raised; after the rename there is none.
            scratch.unlink(missing_ok=True)
    return file


@contextmanager
def write_directory(path: Path) -> Iterator[Path]:
    """Yield a scratch directory that becomes `path` only if the block succeeds.

    An older `path` is replaced at the end of the block, not before it.

    Raises:
        ResourceError: If the disk is full or the parent cannot be written; an older `path` is intact.
    """
    scratch = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    with name_disk_errors(path):
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            yield scratch
            # All contents before the rename that makes them visible.
            for file in scratch.rglob("*"):
                _flush(file)
            _swap(scratch, path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _swap(scratch: Path, path: Path) -> None:
    """Rename a complete directory to `path`; `remove_abandoned` undoes a kill between the two renames."""
    old = path.with_name(f"{PARTIAL}{os.getpid()}{REPLACED}{path.name}")
    # rename(2) replaces no directory that holds files, so there is a moment without `path`.
    if path.exists():
        path.rename(old)
    try:
        scratch.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    _flush(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_abandoned(folder: Path, *, deep: bool = True) -> list[Path]:
    """Remove the partial files of killed writers in `folder`; call it only while holding its lock.

    A directory that was about to be replaced when its writer was killed is restored.

    Args:
        folder: The folder.
        deep: Search its subfolders, too.

    Returns:
        The partial paths that were removed or restored.
    """
    pattern = f"{PARTIAL}*"
    # A list first: what is renamed or removed below would disturb the walk.
    partials = [path for path in (folder.rglob(pattern) if deep else folder.glob(pattern)) if _is_abandoned(path)]
    for path in partials:
        _, mark, name = path.name.partition(REPLACED)
        if mark and not path.with_name(name).exists():
            path.rename(path.with_name(name))
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return partials


def append_line(file: Path, row: Mapping[str, Any]) -> None:
    """Append a JSON line to a journal; an incomplete last line of a killed writer is removed first."""
    with name_disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as stream:
            # A line appended to a torn one would damage both, for ever (Optuna #5138).
            _cut_torn_line(stream)
            stream.write(json.dumps(row).encode() + b"\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a journal without an incomplete last line; damaged lines are skipped with a remark. No file is empty."""
    if not file.is_file():
        return []
    # Without a line end the last line was being written when its writer was killed.
    complete = file.read_bytes().rpartition(b"\n")[0]
    rows = [_row(line) for line in complete.split(b"\n") if line]
    if damaged := rows.count(None):
        progress.remark(f"{file} is damaged: {damaged} of its {len(rows)} lines cannot be read and are left out")
    return [row for row in rows if row is not None]


def write_sealed(file: Path, content: object) -> Path:
    """Write JSON values atomically, preceded by a digest of their text.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written.
    """
    text = json.dumps(content, separators=(",", ":"))
    return write_atomic(file, SEALED % hashlib.sha256(text.encode()).hexdigest() + text + "}")


def read_sealed(file: Path) -> Any:
    """Read a file of `write_sealed`; None if it is absent, unreadable or altered."""
    try:
        data = read_regular(file, LARGEST_SEALED)
        start = len(SEALED % ("0" * 64))
        content = data[start:-1]
        # Compared as bytes: whatever differs from what `write_sealed` writes was altered, harmless or not.
        if data[:start] != (SEALED % hashlib.sha256(content).hexdigest()).encode() or data[-1:] != b"}":
            return None
        return json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None


def reserve(stream: BinaryIO, size: int) -> None:
    """Extend an open file to `size` bytes, and reserve the space on the disk.

    Without the reservation, a memory map of the file ends the process by a bus error when the disk is full.

    Raises:
        OSError: If the disk is full.
    """
    stream.truncate(size)
    if size and hasattr(os, "posix_fallocate"):
        try:
            # `truncate` alone makes a sparse file, whose pages are claimed when they are written.
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system cannot reserve
                raise


@contextmanager
def name_disk_errors(path: Path, hint: str = OUT_HINT) -> Iterator[None]:
    """Turn a full disk or a folder without permission into a `ResourceError` that names path and free space.

    Args:
        path: The path to write.
        hint: What would work.
    """
    try:
        yield
    except OSError as error:
        # EDQUOT is a quota, EFBIG `ulimit -f`. Anything else is a defect, which should keep its traceback.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG):
            raise
        raise ResourceError(f"cannot write {path}: {error.strerror} ({_free(path)})", hint) from error


def _free(path: Path) -> str:
    parent = next((p for p in (path, *path.parents) if os.path.exists(p)), Path("/"))  # noqa: PTH110 (never raises)
    return f"{shutil.disk_usage(parent).free / 1e6:.0f} MB free"


def _cut_torn_line(stream: BinaryIO) -> None:
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)


def _flush(path: Path) -> None:
    # Read-only, since a directory cannot be opened for writing; fsync takes either.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_abandoned(path: Path) -> bool:
    """Whether the writer of a partial file or directory is dead; False for names of no writer."""
    pid = path.name.removeprefix(PARTIAL).partition("-")[0]
    # On a shared disk another host's process looks dead; the folder's lock, which a sweep needs, rules that out.
    return pid.isdecimal() and not _is_alive(int(pid))


def _is_alive(pid: int) -> bool:
    try:
        # Signal 0 only asks. PermissionError is a living process of another user; OverflowError no number of a process.
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _row(text: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None if it is none."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
