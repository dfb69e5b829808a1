"""Where the trials of a search are kept, and how workers see whether others still live: a journal, or PostgreSQL.

Every worker holds a lock of its own for as long as it lives. The kernel frees that of a journal's worker, the server
that of a database's, however the worker dies; so a trial is given back at once, without clocks that must agree.
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
from effxfer.files import named_disk_errors

JOURNAL = "trials.journal"
POSTGRES = re.compile(r"postgres(ql)?(\+psycopg)?://")
PATIENCE = {"connect_timeout": 10, "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10"}


def check_storage(value: str) -> str:
    """Give the name of a storage back if there can be one.

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


class Place(Protocol):
    """A place for trials.

    Attributes:
        shared: Whether other searches, and other machines, keep theirs there as well.
        name: Differs from place to place.
    """

    shared: bool
    name: str

    def check(self) -> None:
        """Make sure, before anything is computed, that there can be such a place; nothing is written."""

    def mend(self) -> str:
        """Leave out what is damaged, if nobody else can work with it, and say so; empty if there was nothing to do."""

    def open(self) -> Any:
        """Open the Optuna storage."""

    def claiming(self) -> AbstractContextManager[None]:
        """Keep all other workers from claiming and reviving trials meanwhile."""

    def hold(self, lock: str) -> Callable[[], None]:
        """Hold a lock until this process ends, or the function that is returned is called."""

    def is_held(self, lock: str) -> bool:
        """Whether somebody holds a lock."""

    def close(self) -> None:
        """Close what is open; this process then works on none of its trials any more."""


class Journal:
    """A file with one line per event, which survives kills; on one machine, or on a file system with locks.

    Args:
        file: Where it lies; locks lie beside it.
        shared: As of `Place`.
    """

    def __init__(self, file: Path, *, shared: bool = False) -> None:
        self.file, self.shared, self.name = file, shared, str(file.absolute())

    def check(self) -> None:
        """Make sure that a file that was named is a journal, or absent.

        Raises:
            SettingsError: If it is something else (E213).
        """
        from effxfer.search.storage.journal import require_journal

        if self.shared:
            require_journal(self.file)

    def mend(self) -> str:
        """Cut a journal that is the search's own before its first damaged line, and say so."""
        from effxfer.search.storage.journal import cut_damage

        return "" if self.shared else cut_damage(self.file)

    def open(self) -> Any:
        """Open it, made if it is absent; a torn last line is cut off.

        Raises:
            SettingsError: If a file that was named is no journal (E213).
            ModelFileError: If it is damaged elsewhere than in its last line (E404).
            ResourceError: If its folder cannot be written.
        """
        from effxfer.search.storage.journal import open_journal

        self.check()
        return open_journal(self.file)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Keep all other workers from claiming and reviving trials meanwhile."""
        from filelock import FileLock

        with FileLock(self.file.with_name(f".{self.file.name}.claim")):
            yield

    def hold(self, lock: str) -> Callable[[], None]:
        """Hold a lock until this process ends, or the function that is returned is called."""
        from filelock import FileLock

        file = self._lock(lock)
        with named_disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(file)
        held.acquire()

        def free() -> None:
            held.release()
            file.unlink(missing_ok=True)

        return free

    def is_held(self, lock: str) -> bool:
        """Whether somebody holds a lock; what a dead worker left of it is removed."""
        from filelock import FileLock, Timeout

        file = self._lock(lock)
        if not file.exists():
            return False
        try:
            with FileLock(file, timeout=0):
                file.unlink(missing_ok=True)
        except Timeout:
            return True
        return False

    def close(self) -> None:
        """Free what this process holds."""
        free_own(self)

    def _lock(self, lock: str) -> Path:
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

        self._engine: Any = create_engine(
            self.name, connect_args=PATIENCE, pool_pre_ping=True, isolation_level="AUTOCOMMIT"
        )
        self._opened: list[Any] = []

    def check(self) -> None:
        """Make sure that the server answers."""
        self._session().close()

    def mend(self) -> str:
        """Nothing: a database mends itself."""
        return ""

    def open(self) -> Any:
        """Open the Optuna storage; whoever comes first makes its tables."""
        from optuna.storages import RDBStorage

        with self.claiming():
            made = RDBStorage(self.name, engine_kwargs={"connect_args": PATIENCE, "pool_pre_ping": True})
        self._opened.append(made)
        return made

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Keep all other workers from claiming and reviving trials meanwhile."""
        free = self.hold("claim")
        try:
            yield
        finally:
            free()

    def hold(self, lock: str) -> Callable[[], None]:
        """Hold a lock until this process ends, or the function that is returned is called."""
        session = self._session()
        self._ask(session, "pg_advisory_lock", lock)

        def free() -> None:
            self._ask(session, "pg_advisory_unlock", lock)
            session.close()

        return free

    def is_held(self, lock: str) -> bool:
        """Whether somebody holds a lock."""
        with self._session() as session:
            if not self._ask(session, "pg_try_advisory_lock", lock):
                return True
            self._ask(session, "pg_advisory_unlock", lock)
            return False

    def close(self) -> None:
        """Close all connections; what this process holds is free then."""
        free_own(self)
        for storage in self._opened:
            storage.remove_session()
            storage.engine.dispose()
        self._opened.clear()
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

    def _ask(self, session: Any, function: str, lock: str) -> Any:
        from sqlalchemy import text

        number = int.from_bytes(hashlib.sha256(f"effxfer head search {lock}".encode()).digest()[:8], signed=True)
        return session.execute(text(f"SELECT {function}(:lock)"), {"lock": number}).scalar()


def place_of(storage: str | None, folder: Path) -> Place:
    """Give the place that the setting `storage` names; a journal in `folder` if it names none."""
    if not storage:
        return own(folder)
    if storage.startswith("journal:"):
        return Journal(Path(storage.removeprefix("journal:")).expanduser(), shared=True)
    return Postgres(storage)


def check_place(storage: str | None) -> None:
    """Make sure, before anything is computed, that trials can be kept where the setting `storage` says.

    Raises:
        SettingsError: If a file that it names is no journal (E213), or psycopg is not installed.
        ResourceError: If the server does not answer, or refuses.
    """
    place = place_of(storage, Path())
    try:
        place.check()
    finally:
        place.close()


def own(folder: Path) -> Journal:
    """Give a search's own journal."""
    return Journal(folder / JOURNAL)


_HELD: dict[tuple[int, str], tuple[str, Callable[[], None]]] = {}


def hold_own(place: Place) -> str:
    """Name the lock that this process holds in a place as long as it lives."""
    key = (os.getpid(), place.name)
    if key not in _HELD:
        lock = uuid.uuid4().hex
        _HELD[key] = (lock, place.hold(lock))
    return _HELD[key][0]


def free_own(place: Place) -> None:
    """Free the lock that this process holds in a place, if it does."""
    held = _HELD.pop((os.getpid(), place.name), None)
    if held:
        held[1]()
