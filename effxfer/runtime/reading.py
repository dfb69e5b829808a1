"""Files that a user names, opened in one way: only regular ones, and no more of them is read than a limit.

A named pipe would wait for ever, `/dev/zero` and a sparse file would fill the memory.
"""

import io
import os
import stat
from pathlib import Path

NO_WAIT = sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
NO_LIMIT = 2**63
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnfitFileError(OSError):
    """What lies at a path cannot be read as a file; `strerror` says why, in words that follow its name."""

    def __init__(self, why: str) -> None:
        super().__init__(0, why)


class TooLargeError(UnfitFileError):
    """A file that is larger than what its reader takes."""


def refusal(facts: os.stat_result, limit: int = NO_LIMIT) -> UnfitFileError | None:
    """Say why a file of these facts is not read, or give None.

    Args:
        facts: Of the file that a link leads to, not of the link.
        limit: The most bytes that its reader takes.
    """
    if not stat.S_ISREG(facts.st_mode):
        return UnfitFileError(f"it is {KINDS.get(stat.S_IFMT(facts.st_mode), 'something else')}, no regular file")
    return _too_large(facts.st_size, limit) if facts.st_size > limit else None


def open_regular(file: Path, limit: int = NO_LIMIT) -> io.BufferedReader:
    """Open a regular file for reading, without waiting for a writer.

    Args:
        file: May be a link.
        limit: Refuse a file of more bytes.

    Raises:
        UnfitFileError: If it is not a regular file; `TooLargeError` if it is larger than the limit.
        OSError: If it is absent or cannot be read.
    """
    _raise(refusal(os.stat(file), limit))  # noqa: PTH116 (as fast as it gets; and opening some devices acts already)
    stream: io.BufferedReader = open(file, "rb", opener=lambda path, flags: os.open(path, flags | NO_WAIT))  # noqa: SIM115
    try:
        _raise(refusal(os.fstat(stream.fileno()), limit))
    except OSError:
        stream.close()
        raise
    return stream


def read_regular(file: Path, limit: int) -> bytes:
    """Read a whole regular file of at most `limit` bytes.

    Raises:
        UnfitFileError: As `open_regular`; also if there is more to read than its size says, beyond the limit.
        OSError: If it is absent or cannot be read.
    """
    with open_regular(file, limit) as stream:
        return read_whole(stream, limit)


def read_whole(stream: io.BufferedReader, limit: int) -> bytes:
    """Read what `open_regular` opened, as `read_regular` does."""
    size = os.fstat(stream.fileno()).st_size
    data = stream.read(size + 1) or b""
    if len(data) > size:  # it grows, or is one of the system's files, which say that they are empty
        data += stream.read(limit + 1 - len(data)) or b""
        _raise(_too_large(len(data), limit) if len(data) > limit else None)
    return data


def _too_large(size: int, limit: int) -> TooLargeError:
    return TooLargeError(f"{size / 1e6:.0f} MB is above the limit of {limit / 1e6:.0f} MB")


def _raise(error: OSError | None) -> None:
    if error is not None:
        raise error
