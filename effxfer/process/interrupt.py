"""A signal ends this process within seconds, at any moment, whatever a library catches.

The handler raises in the main thread, so that what is open is closed. But libraries catch everything (torch-pruning,
mpmath), turn it into an error of their own (torch.export), or run native code for long. A thread of its own therefore
hears of every signal through the wakeup descriptor: it raises again where the exception was swallowed, and ends the
process when `PATIENCE` is over. That is safe: every write is atomic, and what was killed goes on.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
PATIENCE = 6.0
TICK = 0.25
TWICE = 0.5  # seconds; wrappers pass on what the terminal sends as well, so two at once are one
ECHO = 0.05
SHOW_CURSOR = "\r\x1b[?25h"  # a progress bar hides it


class Terminated(BaseException):
    """The process was asked to end (SIGTERM, SIGHUP)."""


SIGNALLED = (KeyboardInterrupt, Terminated)


@dataclass
class _Watch:
    """What is known of signals in this process.

    Attributes:
        message: What to say at the end.
        patience: Seconds from the first signal to the end.
        heard: Receives the numbers of signals, a byte for each.
        number: The first signal that came; 0 is none.
        over: The process is about to end by itself.
    """

    message: str
    patience: float
    heard: socket.socket
    wake: socket.socket
    number: int = 0
    over: bool = False
    ending: Any = field(default_factory=threading.Lock)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Raise in the main thread."""
        if self.over:
            return
        self.number = self.number or number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def run(self, numbers: frozenset[int]) -> None:
        """Wait for the first signal, and see to it that the process ends."""
        first = next(number for number in self.arrivals() if number in numbers)
        self.number = self.number or first
        began = time.monotonic()
        self.heard.settimeout(TICK)
        while (waited := time.monotonic() - began) < self.patience and not self.over:
            again = next(self.arrivals(), 0)
            if again == signal.SIGINT and waited > TWICE:
                break
            if not again and not unwinding():
                self.raise_again()
        if not self.over:
            self.end()

    def arrivals(self) -> Iterator[int]:
        """Give the numbers of signals as they come, until the descriptor's time is out."""
        with suppress(TimeoutError):
            while byte := self.heard.recv(1):
                yield byte[0]

    def raise_again(self) -> None:
        """Send the main thread its signal once more, and do not take that for another one."""
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, self.number)
        else:
            signal.raise_signal(self.number)
        time.sleep(ECHO)
        self.heard.settimeout(0)
        with suppress(BlockingIOError):
            self.heard.recv(4096)
        self.heard.settimeout(TICK)

    def end(self) -> None:
        """Say what there is to say and end, without asking whoever holds what; only the first caller speaks."""
        self.ending.acquire(timeout=1)
        with suppress(OSError):
            text = f"{SHOW_CURSOR if os.isatty(2) else ''}{self.message}\n"
            os.write(2, text.encode(errors="backslashreplace"))
        os._exit(128 + self.number)


_watches: list[_Watch] = []


def listen(message: str, patience: float = PATIENCE) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end this process, with 128 and their number; call it in the main thread.

    A signal that is ignored stays so: that of a job in the background, or under nohup. A second Ctrl-C ends at once.

    Args:
        message: What to print on stderr at the end.
        patience: Seconds that the process may take to clean up.
    """
    found = [number for name in NAMES if (number := getattr(signal, name, None)) is not None]
    numbers = frozenset(number for number in found if signal.getsignal(number) is not signal.SIG_IGN)
    heard, wake = socket.socketpair()
    wake.setblocking(False)
    watch = _Watch(message, patience, heard, wake)
    _watches[:] = [watch]
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, watch.handle)
    _keep_quiet()
    threading.Thread(target=watch.run, args=(numbers,), name="signals", daemon=True).start()


@contextmanager
def heeded(message: str, patience: float = PATIENCE) -> Iterator[None]:
    """Let signals end this process while the block runs, as `listen` says, and after it as `leave` says.

    Whatever the block raises, or gives, once a signal has come, the process ends as stopped: an error may be what a
    library made of it.
    """
    listen(message, patience)
    try:
        try:
            yield
        finally:
            leave()
    except SIGNALLED:  # it came between two instructions of the line above
        leave()


def leave() -> None:
    """End the process if a signal has asked for it; signals that come later change nothing."""
    for watch in _watches:
        watch.over = True
        if watch.number:
            watch.end()


def unwinding() -> bool:
    """Whether the main thread is about to end: it handles what a signal raised, or an error that came of it."""
    handled: Any = sys._current_exceptions().get(threading.main_thread().ident or 0)
    error = handled[1] if isinstance(handled, tuple) else handled  # a tuple before Python 3.12
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, SIGNALLED):
            return True
        seen.add(id(error))
        error = error.__context__
    return False


def _keep_quiet() -> None:
    """Show no traceback of a signal that came where nothing can be raised, such as in a destructor."""
    usual = sys.unraisablehook

    def hook(what: Any) -> None:
        if not isinstance(what.exc_value, SIGNALLED):
            usual(what)

    sys.unraisablehook = hook
