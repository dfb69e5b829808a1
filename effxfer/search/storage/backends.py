"""Where the trials of a search are stored, and how workers see whether others live: a journal, or PostgreSQL.

Optuna stores the trials, but does not keep two workers from drawing the same head, and finds dead workers by a clock
(in databases alone). Here every worker has a lock for as long as it lives. The kernel frees that of a journal's worker,
the server that of a database's, however the worker dies; so a trial is queued again at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from effxfer.errors import ResourceError, SettingsError
from effxfer.files import name_disk_errors

JOURNAL = "trials.journal"
POSTGRES = re.compile(r"postgres(ql)?(\+psycopg)?://")
# A server that is cut off is noticed within a minute; TCP's own patience is two hours.
CONNECT_ARGS = {"connect_timeout": 10, "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10"}
Release = Callable[[], None]


def check_storage(value: str) -> str:
    """Return the name of a storage, if there can be one.

    Raises:
        ValueError: If it is neither a journal nor a PostgreSQL database, or holds a password.
    """
    if value.startswith("journal:") and value != "journal:":
        return value
    if not POSTGRES.match(value):
        raise ValueError("should be postgresql://USER@HOST/DATABASE or journal:PATH")
    parts = urlsplit(value)
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ValueError(
            "should hold no password, which settings and reports would show: give it in PGPASSWORD or ~/.pgpass"
        )
    return value


class StorageBackend(Protocol):
    """A place for trials.

    Attributes:
        shared: Whether other searches, and other machines, store theirs there as well.
        name: Differs from place to place.
    """

    shared: bool
    name: str

    def check(self) -> None:
        """Make sure, before anything is computed, that trials can be stored there; nothing is written."""

    def repair(self) -> str:
        """Cut off a damaged end if no other process works with it; return a description, empty for nothing."""

    def open(self) -> Any:
        """Open the Optuna storage."""

    def claim_lock(self) -> AbstractContextManager[None]:
        """Keep all other workers from beginning and requeueing trials meanwhile."""

    def acquire(self, lock: str) -> Release:
        """Acquire a lock until this process ends, or the function that is returned is called."""

    def is_locked(self, lock: str) -> bool:
        """Whether some process has a lock."""

    def close(self) -> None:
        """Close what is open; this process then works on none of its trials any more."""


class Journal:
    """A file with one line per event, which survives kills; on one machine, or on a file system with locks.

    Args:
        file: File of the journal; its locks are next to it.
        shared: As for `StorageBackend`.
    """

    def __init__(self, file: Path, *, shared: bool = False) -> None:
        self.file, self.shared, self.name = file, shared, str(file.absolute())

    def check(self) -> None:
        """Check that the named file is a journal, or absent.

        Raises:
            SettingsError: If it is something else (E213).
        """
        from effxfer.search.storage.journal import require_journal

        if self.shared:
            require_journal(self.file)

    def repair(self) -> str:
        """Cut a journal that is the search's own before its first damaged line; return what was done."""
        from effxfer.search.storage.journal import cut_damage

        return "" if self.shared else cut_damage(self.file)

    def open(self) -> Any:
        """Open it, created if it is absent; a torn last line is cut off.

        Raises:
            SettingsError: If a file that was named is no journal (E213).
            ModelFileError: If it is damaged elsewhere than in its last line (E404).
            ResourceError: If its folder cannot be written.
        """
        from effxfer.search.storage.journal import open_journal

        self.check()
        return open_journal(self.file)

    @contextmanager
    def claim_lock(self) -> Iterator[None]:
        """Keep all other workers from beginning and requeueing trials meanwhile."""
        from filelock import FileLock

        # Another lock than the writer's: it is held over several events, which take the writer's lock each.
        with FileLock(self.file.with_name(f".{self.file.name}.claim")):
            yield

    def acquire(self, lock: str) -> Release:
        """Acquire a lock until this process ends, or the function that is returned is called."""
        from filelock import FileLock

        file = self._lock_file(lock)
        with name_disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        file_lock = FileLock(file)
        file_lock.acquire()

        def release() -> None:
            file_lock.release()
            file.unlink(missing_ok=True)

        return release

    def is_locked(self, lock: str) -> bool:
        """Whether some process has a lock; the lock file of a dead worker is removed."""
        from filelock import FileLock, Timeout

        file = self._lock_file(lock)
        if not file.exists():
            return False
        try:
            with FileLock(file, timeout=0):
                # Nobody has it: the worker is dead. The name is random, so that no other one will ever want it.
                file.unlink(missing_ok=True)
        except Timeout:
            return True
        return False

    def close(self) -> None:
        """Release the lock of this process."""
        release_process_lock(self)

    def _lock_file(self, lock: str) -> Path:
        return self.file.with_name(f".{self.file.name}.workers") / lock


class Postgres:
    """A PostgreSQL database, for several machines; locks are its advisory ones, which end with their session.

    Args:
        url: Without a password.

    Raises:
        SettingsError: If psycopg is not installed.
        ResourceError: If the server does not answer, or refuses.
    """

    shared = True

    def __init__(self, url: str) -> None:
        self.name = POSTGRES.sub("postgresql+psycopg://", url)
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise SettingsError("storage in PostgreSQL needs psycopg", "pip install 'effxfer[postgres]'") from None
        from sqlalchemy import create_engine

        # Autocommit: a session that only holds a lock would otherwise sit in an open transaction.
        self._engine: Any = create_engine(
            self.name, connect_args=CONNECT_ARGS, pool_pre_ping=True, isolation_level="AUTOCOMMIT"
        )
        self._storages: list[Any] = []

    def check(self) -> None:
        """Check that the server answers."""
        self._session().close()

    def repair(self) -> str:
        """Nothing: a database repairs itself."""
        return ""

    def open(self) -> Any:
        """Open the Optuna storage; the first process creates its tables."""
        from optuna.storages import RDBStorage

        with self.claim_lock():
            storage = RDBStorage(self.name, engine_kwargs={"connect_args": CONNECT_ARGS, "pool_pre_ping": True})
        self._storages.append(storage)
        return storage

    @contextmanager
    def claim_lock(self) -> Iterator[None]:
        """Keep all other workers from beginning and requeueing trials meanwhile."""
        release = self.acquire("claim")
        try:
            yield
        finally:
            release()

    def acquire(self, lock: str) -> Release:
        """Acquire a lock until this process ends, or the function that is returned is called."""
        session = self._session()
        self._call(session, "pg_advisory_lock", lock)

        def release() -> None:
            self._call(session, "pg_advisory_unlock", lock)
            session.close()

        return release

    def is_locked(self, lock: str) -> bool:
        """Whether some process has a lock."""
        with self._session() as session:
            if not self._call(session, "pg_try_advisory_lock", lock):
                return True
            self._call(session, "pg_advisory_unlock", lock)
            return False

    def close(self) -> None:
        """Close all connections, which releases the lock of this process."""
        release_process_lock(self)
        for storage in self._storages:
            storage.remove_session()
            storage.engine.dispose()
        self._storages.clear()
        self._engine.dispose()

    def _session(self) -> Any:
        from sqlalchemy.exc import OperationalError

        try:
            return self._engine.connect()
        except OperationalError as error:
            problem = str(error.orig).strip().splitlines()[0]
            raise ResourceError(
                f"no connection to the storage: {problem}", "is the server up, and PGPASSWORD set?"
            ) from None

    def _call(self, session: Any, function: str, lock: str) -> Any:
        from sqlalchemy import text

        # Advisory locks are numbered by signed 64 bits, in one space for all programs of the database.
        number = int.from_bytes(hashlib.sha256(f"effxfer head search {lock}".encode()).digest()[:8], signed=True)
        return session.execute(text(f"SELECT {function}(:lock)"), {"lock": number}).scalar()


def backend_of(storage: str | None, folder: Path) -> StorageBackend:
    """Return the backend that the setting `storage` names; a journal in `folder` if it names none."""
    if not storage:
        return own_journal(folder)
    if storage.startswith("journal:"):
        return Journal(Path(storage.removeprefix("journal:")).expanduser(), shared=True)
    return Postgres(storage)


def check_backend(storage: str | None) -> None:
    """Make sure, before anything is computed, that trials can be stored where the setting `storage` says.

    Raises:
        SettingsError: If a file that it names is no journal (E213), or psycopg is not installed.
        ResourceError: If the server does not answer, or refuses.
    """
    backend = backend_of(storage, Path())
    try:
        backend.check()
    finally:
        backend.close()


def own_journal(folder: Path) -> Journal:
    """Return the journal that is a search's own."""
    return Journal(folder / JOURNAL)


_PROCESS_LOCKS: dict[tuple[int, str], tuple[str, Release]] = {}


def lock_of_process(backend: StorageBackend) -> str:
    """Name the lock that this process has in a backend as long as it lives; it is acquired at the first call."""
    # With the process: after a fork, the child must not take its parent's lock for its own.
    key = (os.getpid(), backend.name)
    if key not in _PROCESS_LOCKS:
        lock = uuid.uuid4().hex
        _PROCESS_LOCKS[key] = (lock, backend.acquire(lock))
    return _PROCESS_LOCKS[key][0]


def release_process_lock(backend: StorageBackend) -> None:
    """Release the lock that this process has in a backend, if it has one."""
    entry = _PROCESS_LOCKS.pop((os.getpid(), backend.name), None)
    if entry:
        entry[1]()
