"""Optuna's journal file, made to survive the death of its writers; and the check that a file is a journal at all.

Optuna's backend reads and replays the file. Four things are added, the last three for a measured reason:

* Each line has a checksum, a field that Optuna ignores. From a line with a changed digit Optuna would read another
  value, or leave the event out because there is no such trial, and say nothing.
* The kernel frees the lock. The lock files of `JournalFileOpenLock` and `JournalFileSymlinkLock` outlive a killed
  writer: everybody waits for their `grace_period` (30 s, at least 3 s), and then also takes the lock from a slow owner.
* A torn last line is cut off before the next append. Optuna would append to it, and then refuse to read the file.
* Only the end of a trial waits for the disk. Optuna waits at each of the some twenty events of a trial, while others
  wait for its lock: on a busy 2-core machine 4 x 40 empty trials take 24 s, and 7 s so.
"""

from __future__ import annotations

import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from effxfer.errors import ModelFileError, SettingsError
from effxfer.files import name_disk_errors, write_atomic

_SYNCED_EVENTS = {0, 2, 6}  # Optuna's numbers: a study is created, gets an attribute, a trial gets its state
_EVENTS = range(11)  # Optuna's numbers of all events
_FIRST_BYTES = b'{"op_code":'
_CHECKSUM = re.compile(rb',"crc":(\d+)\}\Z')
_LONGEST_FIRST_LINE = 4096  # bytes; it creates a study
_BLOCK = 4096  # bytes; chosen: some lines of Optuna's events
_HINT = "pass as `storage` the name of a journal, or of a file that does not exist yet"


class JournalFile:
    """Optuna's journal backend with checksums, a lock that is freed with its owner, and fewer waits for the disk.

    What a killed process has written is safe without waiting; a power cut may cost what came after the last trial
    ended.

    Args:
        journal: File of the journal, created if absent; its lock file is next to it.
    """

    def __init__(self, journal: Path) -> None:
        from optuna.storages.journal import JournalFileBackend

        self._journal = journal
        self._reader = JournalFileBackend(str(journal))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Read the events from a number on."""
        return self._reader.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append events, one line each with its checksum, after cutting off a torn last line."""
        lines = b"".join(_line(log) for log in logs)
        with writer_lock(self._journal), self._journal.open("a+b") as stream:
            _cut_torn_tail(self._journal, stream)
            stream.write(lines)
            # To the kernel before the lock is given back: others must see whole lines.
            stream.flush()
            if any(log["op_code"] in _SYNCED_EVENTS for log in logs):
                os.fsync(stream.fileno())


def writer_lock(journal: Path) -> AbstractContextManager[Any]:
    """Acquire the lock of all writers; the kernel frees it, however its owner dies."""
    from filelock import FileLock

    # filelock's own interval of 50 ms is longer than most events of a trial take together.
    return FileLock(journal.with_name(f".{journal.name}.guard")).acquire(poll_interval=0.002)


def open_journal(journal: Path) -> Any:
    """Open an Optuna storage in a file, whose folder is created.

    Raises:
        ModelFileError: If the journal is damaged elsewhere than in its last line (E404).
        ResourceError: If the folder cannot be written.
    """
    from optuna.storages import JournalStorage

    with name_disk_errors(journal.parent):
        journal.parent.mkdir(parents=True, exist_ok=True)
    _refuse_damage(journal)
    cut_torn_tail(journal)
    backend: Any = JournalFile(journal)
    try:
        return JournalStorage(backend)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{journal} holds events that do not fit each other: {type(error).__name__} {error}",
            "move it away to search again from the start",
            code="E404",
        ) from None


def require_journal(file: Path) -> None:
    """Check that a file is a journal or absent; nothing is written.

    Raises:
        SettingsError: If it is something else (E213).
    """
    if not os.path.lexists(file):
        if not next(parent for parent in file.absolute().parents if parent.exists()).is_dir():
            raise SettingsError(f"{file} lies below a file, not a folder", _HINT, code="E213")
        return
    if kind := _special_kind(file):
        raise SettingsError(f"{file} is {kind}, not a journal of trials", _HINT, code="E213")
    with name_disk_errors(file), file.open("rb") as stream:
        first = stream.readline(_LONGEST_FIRST_LINE)
    if first and not (_is_event(first) if first.endswith(b"\n") else first.startswith(_FIRST_BYTES)):
        raise SettingsError(f"{file} is not a journal of trials: it is left as it is", _HINT, code="E213")


def _special_kind(file: Path) -> str:
    """Name the kind of a path that is not a plain file; empty for a plain one."""
    mode = file.lstat().st_mode
    kinds = {
        stat.S_ISLNK: f"a link to {os.path.realpath(file)}", stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }  # fmt: skip
    kind = next((words for is_kind, words in kinds.items() if is_kind(mode)), "a device")
    return "" if stat.S_ISREG(mode) else kind


def cut_torn_tail(journal: Path) -> Path | None:
    """Cut off a last line that a killed writer or a full disk left incomplete, under the journal's lock.

    Returns:
        The file that now holds what was cut off, or None if the journal was in order or is absent.
    """
    if not journal.exists():
        return None
    with writer_lock(journal), name_disk_errors(journal), journal.open("r+b") as stream:
        return _cut_torn_tail(journal, stream)


def cut_damage(journal: Path) -> str:
    """Cut a journal that nobody else works with before its first damaged line: the search goes on from there.

    Returns:
        What was done, in a sentence; empty if the journal is in order or absent.
    """
    if not journal.is_file():
        return ""
    number, end = _first_damage(journal.read_bytes())
    if not number:
        return ""
    with name_disk_errors(journal), journal.open("r+b") as stream:
        copy = _cut(journal, stream, end)
    return f"{journal} is damaged in line {number}: the search goes on from the line before it; the rest is in {copy}"


def _cut_torn_tail(journal: Path, stream: BinaryIO) -> Path | None:
    last = _last_line(stream)
    return None if not last or last.endswith(b"\n") else _cut(journal, stream, stream.seek(0, os.SEEK_END) - len(last))


def _cut(journal: Path, stream: BinaryIO, end: int) -> Path:
    """Move the bytes after the first `end` of a journal into a file next to it."""
    stream.seek(end)
    # Never over an earlier copy.
    number = sum(1 for _ in journal.parent.glob(f"{journal.name}.torn-*"))
    copy = write_atomic(journal.with_name(f"{journal.name}.torn-{number}"), stream.read())
    stream.truncate(end)
    return copy


def _last_line(stream: BinaryIO) -> bytes:
    """Read the last line, with its end if it has one; empty for an empty file."""
    end, size = stream.seek(0, os.SEEK_END), _BLOCK
    while True:
        start = max(0, end - size)
        stream.seek(start)
        block = stream.read(end - start)
        # Without the last byte, which is the last line's own end.
        cut = block.rfind(b"\n", 0, -1)
        if cut >= 0 or start == 0:
            return block[cut + 1 :]
        size *= 4


def _refuse_damage(journal: Path) -> None:
    number, _ = _first_damage(journal.read_bytes()) if journal.exists() else (0, 0)
    if number:
        action = f"keep its first {number - 1} lines to go on from there" if number > 1 else "move it away"
        hint = f"{action}, or give another place: what is lost is searched again"
        raise ModelFileError(f"{journal} is damaged in line {number}", hint, code="E404")


def _first_damage(content: bytes) -> tuple[int, int]:
    """Find the first complete line that is no event.

    Returns:
        Its number from 1, and the bytes before it; 0 and the length of the complete lines if there is none.
    """
    position = 0
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        if not _is_event(line):
            return number, position
        position += len(line) + 1
    return 0, position


def _line(event: dict[str, Any]) -> bytes:
    content = json.dumps(event, separators=(",", ":")).encode()
    return content[:-1] + b',"crc":%d}\n' % zlib.crc32(content)


def _is_event(line: bytes) -> bool:
    checksum = _CHECKSUM.search(line)  # lines that Optuna itself wrote have none
    if checksum and int(checksum[1]) != zlib.crc32(line[: checksum.start()] + b"}"):
        return False
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and event.get("op_code") in _EVENTS
