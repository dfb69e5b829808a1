"""Index a `.tar` file: where the content of each regular file in it lies. Nothing is extracted.

A tar is of unknown origin: links, devices, sparse files, and names that lead out of it are refused; sizes are compared
with what is there before anything is read.
"""

import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from effxfer.errors import DataError
from effxfer.runtime.reading import TooLargeError, open_regular

SUFFIX = ".tar"
# Bytes of one header with its long name; real ones have below 2 kB. A forged length would be read at once.
MOST_HEADER = 2**20
# Shards of one data set; each has some ten thousand members of 100 bytes in memory.
OPEN_INDEXES = 256
ADVICE = "write it anew: `tar` of the regular files alone, uncompressed, with relative names"


class Member(NamedTuple):
    """The content of a file in a tar: its first byte, and its size in bytes."""

    offset: int
    size: int


class _Headers:
    """A stream for `tarfile` that refuses to read more at once than headers have."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.tell, self.seek = stream, stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        """Read at most `MOST_HEADER` bytes.

        Raises:
            tarfile.ReadError: If more are requested.
        """
        if not 0 <= size <= MOST_HEADER:
            raise tarfile.ReadError(f"a header states {size} bytes")
        return self._stream.read(size)


def members(file: Path) -> dict[str, Member]:
    """Return the regular files in a tar by name; the same file is indexed once in a process.

    Raises:
        DataError: If it is no tar, is cut off, or holds something else than folders and regular files (`E323`).
        OSError: If it cannot be read.
    """
    facts = os.stat(file)  # noqa: PTH116 (as for all files of a source)
    return _index(file, facts.st_size, facts.st_ino, facts.st_mtime_ns)


@lru_cache(maxsize=OPEN_INDEXES)
def _index(file: Path, size: int, _inode: int, _time: int) -> dict[str, Member]:
    index = dict[str, Member]()
    with open_regular(file) as stream:
        try:
            for name, member in _read_members(file, stream):
                if name in index:
                    raise _tar_error(file, f"holds {name!r} twice")
                if member.offset + member.size > size:
                    raise _tar_error(file, f"ends within {name!r}")
                index[name] = member
        except (tarfile.TarError, OverflowError, ValueError, EOFError) as error:
            raise _tar_error(file, f"is no readable tar: {error}") from None
    return index


def _read_members(file: Path, stream: BinaryIO) -> Iterator[tuple[str, Member]]:
    # "r:": no compression, with which a small file may be a large one.
    with tarfile.open(fileobj=_Headers(stream), mode="r:") as tar:  # type: ignore[call-overload]
        while (entry := tar.next()) is not None:
            # It would keep all of them.
            tar.members = []
            _require_safe(file, entry)
            if not entry.isdir():
                yield entry.name.removeprefix("./"), Member(entry.offset_data, entry.size)


def _require_safe(file: Path, entry: tarfile.TarInfo) -> None:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts:
        raise _tar_error(file, f"holds {entry.name!r}, a name that leads out of it")
    if entry.issparse() or not (entry.isreg() or entry.isdir()):
        kind = "a link" if entry.issym() or entry.islnk() else "a sparse file" if entry.issparse() else "a device"
        raise _tar_error(file, f"holds {entry.name!r}, which is {kind}")


def _tar_error(file: Path, problem: str) -> DataError:
    return DataError(f"{file} {problem}", ADVICE, code="E323")


def split_path(root: Path, path: str) -> tuple[Path, str] | None:
    """Return the tar and the name in it of an item's path such as `train-000.tar/17.jpg`; None for a file.

    Args:
        root: Folder that the path is relative to.
        path: With forward slashes.
    """
    start = path.find(f"{SUFFIX}/")
    if start < 0:
        return None
    file, name = root / path[: start + len(SUFFIX)], path[start + len(SUFFIX) + 1 :]
    return (file, name) if os.path.isfile(file) else None  # noqa: PTH113 (never raises)


def read_member(file: Path, name: str, limit: int) -> bytes:
    """Read a file in a tar.

    Raises:
        DataError: If the tar was damaged since it was listed (`E323`).
        OSError: If it cannot be read, lacks the file, or that has more bytes than the limit.
    """
    index = members(file)
    if name not in index:
        raise FileNotFoundError(2, "No such file in the tar", f"{file}/{name}")
    member = index[name]
    if member.size > limit:
        raise TooLargeError(f"{member.size / 1e6:.0f} MB is above the limit of {limit / 1e6:.0f} MB")
    with open_regular(file) as stream:
        stream.seek(member.offset)
        return stream.read(member.size)
