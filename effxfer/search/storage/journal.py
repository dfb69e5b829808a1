"""The file that a study is kept in, one line per event, however its writers die.

Optuna's journal backend, left alone, stalls 30 s on the lock of a killed writer and becomes unreadable once somebody
appends to a torn line. Here a kernel lock is freed with its holder, and a torn line is cut off before the next append.
Each line ends with a checksum of itself and of the one before it: a line that was changed, or is gone, is named.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from effxfer.errors import ModelFileError, SettingsError
from effxfer.files import named_disk_errors, write_atomic

_LASTING = {0, 2, 6}
"""Optuna's numbers of the events that wait for the disk: a study is made, gets an attribute, a trial ends."""
_KINDS = range(11)
"""Optuna's numbers of all events."""
_BEGINS = b'{"op_code":'
_LONGEST = 4096  # bytes of a first line: it makes a study
_BLOCK = 4096
_SUMMED = re.compile(rb'(.*),"sum":(\d{1,10})\}', re.DOTALL)
_ANOTHER = "give --storage the name of a journal, or of a file that is not there yet"


class KernelLock:
    """A lock for Optuna's journal backend that the kernel frees, however its holder dies.

    Each acquisition cuts off a torn last line, so that nobody ever appends to one.

    Args:
        journal: The file to guard; the lock file lies beside it.
    """

    def __init__(self, journal: Path) -> None:
        from filelock import FileLock

        self._journal = journal
        self._lock = FileLock(journal.with_name(f".{journal.name}.guard"))

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        _cut_torn(self._journal)
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


class Events:
    """Optuna's journal file, but for how it is appended to: only the end of a trial waits for the disk.

    Optuna waits for the disk at each event, some twenty per trial, nearly all of them while other workers wait for the
    lock. What a killed process has written is safe without; a power cut may cost what came after the last trial ended.

    Args:
        journal: The file, made if it is absent.
    """

    def __init__(self, journal: Path) -> None:
        from optuna.storages.journal import JournalFileBackend

        self._journal = journal
        self._lock = KernelLock(journal)
        self._reader = JournalFileBackend(str(journal))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Give the events from a number on."""
        return self._reader.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append events, one line each."""
        self._lock.acquire()
        try:
            with self._journal.open("a+b") as stream:
                stream.write(_lines(logs, _last_sum(stream)))
                stream.flush()
                if any(log["op_code"] in _LASTING for log in logs):
                    os.fsync(stream.fileno())
        finally:
            self._lock.release()


def open_journal(journal: Path) -> Any:
    """Open an Optuna storage in a file, whose folder is made.

    Raises:
        ModelFileError: If the journal is damaged elsewhere than in its last line (E404).
        ResourceError: If the folder cannot be written.
    """
    from optuna.storages import JournalStorage

    with named_disk_errors(journal.parent):
        journal.parent.mkdir(parents=True, exist_ok=True)
    _check(journal)
    cut_torn_tail(journal)
    events: Any = Events(journal)
    try:
        return JournalStorage(events)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{journal} holds events that do not fit each other: {type(error).__name__} {error}",
            "move it away to search again from the start",
            code="E404",
        ) from None


def require_journal(file: Path) -> None:
    """Make sure that a file that a user named is a journal, or is absent; nothing is written.

    Raises:
        SettingsError: If it is something else (E213).
    """
    if not os.path.lexists(file):
        if not next(parent for parent in file.absolute().parents if parent.exists()).is_dir():
            raise SettingsError(f"{file} lies below a file, not a folder", _ANOTHER, code="E213")
        return
    if what := _special(file):
        raise SettingsError(f"{file} is {what}, not a journal of trials", _ANOTHER, code="E213")
    with named_disk_errors(file), file.open("rb") as stream:
        first = stream.readline(_LONGEST)
    if first and not (_is_event(first) if first.endswith(b"\n") else first.startswith(_BEGINS)):
        raise SettingsError(f"{file} is not a journal of trials: it is left as it is", _ANOTHER, code="E213")


def _special(file: Path) -> str:
    """Say what a path is that is not a plain file; empty for a plain one."""
    mode = file.lstat().st_mode
    kinds = {
        stat.S_ISLNK: f"a link to {os.path.realpath(file)}", stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }  # fmt: skip
    known = next((words for is_one, words in kinds.items() if is_one(mode)), "a device")
    return "" if stat.S_ISREG(mode) else known


def cut_torn_tail(journal: Path) -> Path | None:
    """Cut off a last line that a killed writer or a full disk left incomplete, under the journal's lock.

    Returns:
        The file that now holds what was cut off, or None if the journal was in order or is absent.
    """
    if not journal.exists():
        return None
    from filelock import FileLock

    with FileLock(journal.with_name(f".{journal.name}.guard")):
        return _cut_torn(journal)


def cut_damage(journal: Path) -> str:
    """Cut a journal that nobody else works with before its first damaged line: the search goes on from there.

    Returns:
        What was done, in a sentence; empty if the journal is in order or absent.
    """
    if not journal.is_file():
        return ""
    number, keep = _damage(journal.read_bytes())
    if not number:
        return ""
    with named_disk_errors(journal), journal.open("r+b") as stream:
        copy = _cut(journal, stream, keep)
    return f"{journal} is damaged in line {number}: the search goes on from the line before it; the rest is in {copy}"


def _cut_torn(journal: Path) -> Path | None:
    if not journal.exists():
        return None
    with named_disk_errors(journal), journal.open("r+b") as stream:
        last = _last_line(stream)
        return None if not last or last.endswith(b"\n") else _cut(journal, stream, stream.seek(0, 2) - len(last))


def _cut(journal: Path, stream: BinaryIO, keep: int) -> Path:
    """Keep the first bytes of a journal, and put the rest into a file beside it."""
    stream.seek(keep)
    number = sum(1 for _ in journal.parent.glob(f"{journal.name}.torn-*"))
    copy = write_atomic(journal.with_name(f"{journal.name}.torn-{number}"), stream.read())
    stream.truncate(keep)
    return copy


def _last_line(stream: BinaryIO) -> bytes:
    """Read the last line, with its end if it has one; empty for an empty file."""
    end, size = stream.seek(0, os.SEEK_END), _BLOCK
    while True:
        start = max(0, end - size)
        stream.seek(start)
        block = stream.read(end - start)
        cut = block.rfind(b"\n", 0, -1)
        if cut >= 0 or start == 0:
            return block[cut + 1 :]
        size *= 4


def _check(journal: Path) -> None:
    if not journal.exists():
        return
    number, _ = _damage(journal.read_bytes())
    if number:
        keep = f"keep its first {number - 1} lines to go on from there" if number > 1 else "move it away"
        hint = f"{keep}, or give another place: what is lost is searched again"
        raise ModelFileError(f"{journal} is damaged in line {number}", hint, code="E404")


def _damage(content: bytes) -> tuple[int, int]:
    """Find the first complete line that is not what was written.

    Returns:
        Its number from 1, and the bytes before it; 0 and the length of the complete lines if there is none.
    """
    at, before = 0, 0
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        own = _sum(line, before)
        if own is None or not _is_event(line):
            return number, at
        at, before = at + len(line) + 1, own
    return 0, at


def _is_event(line: bytes) -> bool:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and event.get("op_code") in _KINDS


def _lines(logs: list[dict[str, Any]], before: int) -> bytes:
    """Write events as lines that follow a line with the checksum `before`."""
    made = []
    for log in logs:
        body = json.dumps(log, separators=(",", ":")).encode()[:-1]
        before = crc32(body, before)
        made.append(body + b',"sum":%d}\n' % before)
    return b"".join(made)


def _last_sum(stream: BinaryIO) -> int:
    """The checksum that the next line starts from."""
    last = _last_line(stream)
    written = _SUMMED.fullmatch(last[:-1])
    return int(written[2]) if written else crc32(last[:-1])


def _sum(line: bytes, before: int) -> int | None:
    """The checksum of a line after one with the checksum `before`; None if it is another one than the line says.

    A line without one was written by Optuna, or an effxfer of before; the next line has it that it follows on it.
    """
    written = _SUMMED.fullmatch(line)
    if not written:
        return crc32(line)
    return int(written[2]) if crc32(written[1], before) == int(written[2]) else None
