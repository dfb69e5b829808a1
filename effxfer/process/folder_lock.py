"""Lock a folder against other processes."""

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from effxfer.errors import LockedError
from effxfer.files import name_disk_errors, write_atomic
from effxfer.runtime.reading import read_regular

# Longer than `is_locked` holds the lock to look, and still "at once" to a user.
LOCK_SECONDS = 0.3
LARGEST_HOLDER = 2**16  # chosen; a holder has about 100 bytes


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes; the kernel frees the lock when this process dies.

    A folder that was created for the lock is removed afterwards if nothing was written to it.

    Raises:
        LockedError: At once, naming the holder, if another process holds it (for longer than a look by `is_locked`).
    """
    from filelock import FileLock, Timeout

    holder, created = folder / ".lock.json", list[Path]()
    with name_disk_errors(folder):
        created = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        # The kernel frees it with its process; a lock that is a file stays: Optuna's costs
        # 30 s after a crash (measured).
        lock = FileLock(folder / ".lock", timeout=LOCK_SECONDS)
        try:
            # Every 0.05 s, as filelock by default.
            lock.acquire(poll_interval=LOCK_SECONDS / 6)
        except Timeout:
            facts = _read_holder(holder)
            who = f"process {facts.get('pid', '?')} on {facts.get('host', '?')} since {facts.get('since', '?')}"
            raise LockedError(f"{folder} is in use by {who}", "wait for it, or give another `out`") from None
    try:
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_atomic(holder, json.dumps(facts))
        yield
    finally:
        _remove_lock(folder, holder, created)
        lock.release()


def _remove_lock(folder: Path, holder: Path, created: Sequence[Path]) -> None:
    """Remove the lock's files from an otherwise empty folder, and the folders that were created for it."""
    with suppress(OSError):
        holder.unlink(missing_ok=True)
        # Under the lock: filelock sees that the file which it waited for has no name any more, and makes it anew.
        if {file.name for file in folder.glob("*")} <= {".lock"}:  # or it was removed in the block
            (folder / ".lock").unlink(missing_ok=True)
            for place in (place for place in created if place.exists()):
                place.rmdir()


def is_locked(folder: Path) -> bool:
    """Whether another process has locked a folder."""
    from filelock import FileLock, Timeout

    if not (folder / ".lock").is_file():
        return False
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # it was removed meanwhile, or belongs to another user
        return False


def _read_holder(file: Path) -> dict[str, Any]:
    """Return who holds a lock; nothing if its file cannot be read."""
    try:
        facts = json.loads(read_regular(file, LARGEST_HOLDER))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
