"""Let processes that train give way to one that measures time: a readers-writer lock among processes.

A process of a parallel run holds the lock shared while it works, exclusively while it measures time, and gives it up
between two training steps if another process waits to measure. Without a parallel run, all functions do nothing.

The kernel frees the locks of a killed process. There are two locks, so that a stream of new trainings cannot keep a
measurement waiting: whoever measures holds the gate, through which every other process must pass.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where no parallel run is offered
    fcntl = None  # type: ignore[assignment]

GATE, MACHINE = "gate.lock", "machine.lock"


class TimingLock:
    """The lock of one process; not thread-safe.

    Args:
        folder: An existing folder that all processes share.
    """

    def __init__(self, folder: Path) -> None:
        self.gate, self.machine = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in (GATE, MACHINE))
        self.exclusive = False

    def share(self) -> None:
        """Wait for measurements, and let none begin."""
        fcntl.flock(self.gate, fcntl.LOCK_SH)
        fcntl.flock(self.machine, fcntl.LOCK_SH)
        fcntl.flock(self.gate, fcntl.LOCK_UN)

    def exclude(self) -> None:
        """Wait until no other process works, and let none go on."""
        # The gate stays closed: a training that comes to it waits for the end of the measurement.
        fcntl.flock(self.gate, fcntl.LOCK_EX)
        fcntl.flock(self.machine, fcntl.LOCK_EX)
        self.exclusive = True

    def release(self) -> None:
        """Let others measure or work."""
        self.exclusive = False
        fcntl.flock(self.machine, fcntl.LOCK_UN)
        fcntl.flock(self.gate, fcntl.LOCK_UN)

    def is_wanted(self) -> bool:
        """Whether another process measures, or waits until it can."""
        try:
            fcntl.flock(self.gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.gate, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Release the lock for good."""
        os.close(self.machine)
        os.close(self.gate)


_locks: list[TimingLock] = []


def is_supported() -> bool:
    """Whether this system has the locks of a parallel run."""
    return fcntl is not None


@contextmanager
def share_machine(folder: Path) -> Iterator[None]:
    """Work in this block beside other processes, except while one of them measures time.

    Args:
        folder: An existing folder that all processes of the parallel run share.
    """
    lock = TimingLock(folder)
    try:
        lock.share()
        _locks.append(lock)
        yield
    finally:
        _locks.clear()
        lock.close()


@contextmanager
def exclusive_timing() -> Iterator[None]:
    """Have the machine to oneself in this block, as far as the same parallel run is concerned."""
    if not _locks or _locks[-1].exclusive:
        yield
        return
    lock = _locks[-1]
    # Given up first: two processes that share would wait for each other for ever.
    lock.release()
    lock.exclude()
    with _shared_again(lock):
        yield


def pause_for_timing() -> float:
    """Wait if another process waits to measure time; call it between units of work, such as training steps.

    Returns:
        The seconds of waiting.
    """
    if not _locks or _locks[-1].exclusive or not _locks[-1].is_wanted():
        return 0.0
    began = time.perf_counter()
    _locks[-1].release()
    _locks[-1].share()
    return time.perf_counter() - began


@contextmanager
def leave_machine() -> Iterator[None]:
    """Give the machine up in this block, in which the process only waits for others."""
    if not _locks:
        yield
        return
    _locks[-1].release()
    with _shared_again(_locks[-1]):
        yield


@contextmanager
def _shared_again(lock: TimingLock) -> Iterator[None]:
    """Share the machine again after the block, but not after a signal: the process ends, and should wait for nobody."""
    try:
        yield
    except Exception:  # raised again
        lock.release()
        lock.share()
        raise
    except BaseException:  # raised again: a signal ends the process
        lock.release()
        raise
    lock.release()
    lock.share()
