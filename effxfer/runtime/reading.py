"""Open files that a user names: only regular files, and never more bytes of them than a limit.

Opening a named pipe would block for ever; `/dev/zero` or a sparse file would fill the memory.
"""

import io
import os
import stat
from pathlib import Path

# Windows has only the last one; POSIX systems have only the others.
NO_WAIT = sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
# More than any file: sizes are signed 64-bit numbers.
NO_LIMIT = 2**63
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnfitFileError(OSError):
    """A path that cannot be read as a file; `strerror` gives the reason, to follow the file's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


class TooLargeError(UnfitFileError):
    """A file that is larger than its reader's limit."""


def unfit_error(status: os.stat_result, limit: int = NO_LIMIT) -> UnfitFileError | None:
    """Return why a file must not be read, or None.

    Args:
        status: `os.stat` of the file itself, not of a link to it.
        limit: Most bytes that its reader accepts.
    """
    if not stat.S_ISREG(status.st_mode):
        return UnfitFileError(f"it is {KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, no regular file")
    return _too_large(status.st_size, limit) if status.st_size > limit else None


def open_regular(file: Path, limit: int = NO_LIMIT) -> io.BufferedReader:
    """Open a regular file for reading, without waiting for a writer.

    Args:
        file: May be a link.
        limit: Refuse a file of more bytes.

    Raises:
        UnfitFileError: If it is not a regular file; `TooLargeError` if it is larger than the limit.
        OSError: If it is absent or cannot be read.
    """
    _raise(unfit_error(os.stat(file), limit))  # noqa: PTH116 (fastest; checked before opening because opening some devices has effects)
    stream: io.BufferedReader = open(file, "rb", opener=lambda path, flags: os.open(path, flags | NO_WAIT))  # noqa: SIM115
    try:
        _raise(unfit_error(os.fstat(stream.fileno()), limit))
    except OSError:
        stream.close()
        raise
    return stream


def read_regular(file: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        UnfitFileError: If it is not a regular file, or its size or content exceeds the limit.
        OSError: If it is absent or cannot be read.
    """
    with open_regular(file, limit) as stream:
        return read_stream(stream, limit)


def read_stream(stream: io.BufferedReader, limit: int) -> bytes:
    """Read a stream of `open_regular`, at most `limit` bytes.

    Raises:
        TooLargeError: If the content exceeds both the file's stated size and the limit.
    """
    size = os.fstat(stream.fileno()).st_size
    # A byte more than the size shows whether there is more.
    data = stream.read(size + 1) or b""
    if len(data) > size:  # the file is growing, or belongs to procfs, where sizes are 0
        data += stream.read(limit + 1 - len(data)) or b""
        _raise(_too_large(len(data), limit) if len(data) > limit else None)
    return data


def _too_large(size: int, limit: int) -> TooLargeError:
    return TooLargeError(f"{size / 1e6:.0f} MB is above the limit of {limit / 1e6:.0f} MB")


def _raise(error: OSError | None) -> None:
    if error is not None:
        raise error
