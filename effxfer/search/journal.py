"""The file that a study is kept in, one line per event, however its writers die.

Optuna's journal backend, left alone, stalls 30 s on the lock of a killed writer and becomes unreadable once somebody
appends to a torn line. Here a kernel lock is freed with its holder, and a torn line is cut off before the next append.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.files import named_disk_errors, write_atomic

_LASTING = {0, 2, 6}
"""Optuna's numbers of the events that wait for the disk: a study is made, gets an attribute, a trial ends."""


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
        _cut(self._journal)
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
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            with self._journal.open("ab") as stream:
                stream.write(lines.encode())
                stream.flush()
                if any(log["op_code"] in _LASTING for log in logs):
                    os.fsync(stream.fileno())
        finally:
            self._lock.release()


def open_journal(journal: Path) -> Any:
    """Open an Optuna storage in a file, whose folder is made.

    Raises:
        ModelFileError: If the journal is damaged elsewhere than in its last line.
        ResourceError: If the folder cannot be written.
    """
    from optuna.storages import JournalStorage

    with named_disk_errors(journal.parent):
        journal.parent.mkdir(parents=True, exist_ok=True)
    cut_torn_tail(journal)
    _check(journal)
    events: Any = Events(journal)
    return JournalStorage(events)


def cut_torn_tail(journal: Path) -> Path | None:
    """Cut off a last line that a killed writer or a full disk left incomplete, under the journal's lock.

    Returns:
        The file that now holds what was cut off, or None if the journal was in order or is absent.
    """
    if not journal.exists():
        return None
    from filelock import FileLock

    with FileLock(journal.with_name(f".{journal.name}.guard")):
        return _cut(journal)


def _cut(journal: Path) -> Path | None:
    if not journal.exists():
        return None
    with named_disk_errors(journal), journal.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        if end == 0 or _byte(stream, end - 1) == b"\n":
            return None
        keep = _last_newline(stream, end) + 1
        stream.seek(keep)
        number = sum(1 for _ in journal.parent.glob(f"{journal.name}.torn-*"))
        copy = write_atomic(journal.with_name(f"{journal.name}.torn-{number}"), stream.read())
        stream.truncate(keep)
    return copy


def _byte(stream: Any, at: int) -> bytes:
    stream.seek(at)
    found: bytes = stream.read(1)
    return found


def _last_newline(stream: Any, end: int) -> int:
    stream.seek(0)
    found: int = stream.read(end).rfind(b"\n")
    return found


def _check(journal: Path) -> None:
    if not journal.exists():
        return
    for number, line in enumerate(journal.read_bytes().splitlines(), 1):
        try:
            json.loads(line)
        except ValueError:
            raise ModelFileError(
                f"{journal} is damaged in line {number}", "remove it to search again from the start"
            ) from None
