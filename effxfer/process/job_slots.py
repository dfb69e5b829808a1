"""Limit how many processes of a parallel run work at a time, however deep they are nested.

A process that works holds a slot, a locked file; one that only waits for its own children gives it up. The kernel frees
the slot of a killed process.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where no parallel run is offered
    fcntl = None  # type: ignore[assignment]

POLL = 0.1  # seconds between looks for a free slot: chosen; a training takes longer


class JobSlot:
    """The slot of one process.

    Args:
        folder: An existing folder that all processes share.
        count: How many of them work at a time.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.files = [os.open(folder / f"slot-{k}.lock", os.O_RDWR | os.O_CREAT, 0o600) for k in range(count)]

    def take(self) -> None:
        """Wait for a free slot and take it."""
        while not any(self._lock(file) for file in self.files):
            time.sleep(POLL)

    def free(self) -> None:
        """Give the slot to another process."""
        for file in self.files:
            fcntl.flock(file, fcntl.LOCK_UN)

    @staticmethod
    def _lock(file: int) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False


_slots: list[JobSlot] = []


@contextmanager
def hold_slot(folder: Path, count: int) -> Iterator[None]:
    """Hold one of `count` slots in this block; wait for it first."""
    slot = JobSlot(folder, count)
    slot.take()
    _slots.append(slot)
    try:
        yield
    finally:
        _slots.remove(slot)
        slot.free()
        for file in slot.files:
            os.close(file)


@contextmanager
def leave_slot() -> Iterator[None]:
    """Give the slot of this process up in this block, in which it only waits for its children."""
    if not _slots:
        yield
        return
    _slots[-1].free()
    yield
    # Not after an error: it ends this process.
    _slots[-1].take()
