"""End the process within seconds of a signal, at any moment, even if a library catches exceptions.

The handler raises in the main thread, so open resources are closed. But libraries catch all exceptions (torch-pruning,
mpmath), convert them to their own (torch.export), or run native code for long. So a separate thread receives every
signal through the wakeup descriptor. It raises again if the exception was swallowed, and ends the process after
`CLEANUP_SECONDS`. That is safe, because every write is atomic and interrupted work can be resumed.
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
# The promise is ten seconds to the end (guide, exit codes); the rest is for a busy machine.
CLEANUP_SECONDS = 6.0
TICK = 0.25  # pause between looks whether a library swallowed the exception: chosen, not measured
MIN_REPEAT_SECONDS = 0.5  # seconds; wrappers forward the terminal's signal, so two at once count as one
# The repeated signal comes back on the descriptor; read too early, it counts as a second Ctrl-C.
ECHO_SECONDS = 0.05
SHOW_CURSOR = "\r\x1b[?25h"  # a progress bar hides it


class Terminated(BaseException):
    """The process was asked to end (SIGTERM, SIGHUP)."""


SIGNALLED = (KeyboardInterrupt, Terminated)


@dataclass
class _Watch:
    """State of the signals of this process.

    Attributes:
        message: Message to print at the end.
        patience: Seconds from the first signal to the end.
        heard: Receives the numbers of signals, a byte each.
        number: The first signal; 0 for none.
        over: Whether the process is about to end by itself.
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
        """Wait for the first signal, and ensure that the process ends."""
        first = next(number for number in self.arrivals() if number in numbers)
        self.number = self.number or first
        began = time.monotonic()
        self.heard.settimeout(TICK)
        while (waited := time.monotonic() - began) < self.patience and not self.over:
            repeated = next(self.arrivals(), 0)
            # A second Ctrl-C: the user does not want to wait for the cleaning up.
            if repeated == signal.SIGINT and waited > MIN_REPEAT_SECONDS:
                break
            # Never while blocks are being left: that would cut off the cleaning up itself.
            if not repeated and not is_unwinding():
                self.raise_again()
        if not self.over:
            self.end()

    def arrivals(self) -> Iterator[int]:
        """Yield the numbers of signals as they arrive, until the descriptor times out."""
        with suppress(TimeoutError):
            while byte := self.heard.recv(1):
                yield byte[0]

    def raise_again(self) -> None:
        """Send the signal to the main thread again, and discard its echo on the descriptor."""
        if hasattr(signal, "pthread_kill"):
            # To the main thread: only there does Python run handlers and raise.
            signal.pthread_kill(threading.main_thread().ident or 0, self.number)
        else:
            signal.raise_signal(self.number)
        time.sleep(ECHO_SECONDS)
        self.heard.settimeout(0)
        with suppress(BlockingIOError):
            # All of the echo: a byte for each signal that arrived.
            self.heard.recv(4096)
        self.heard.settimeout(TICK)

    def end(self) -> None:
        """Print the message and end at once, whatever locks are held; only the first caller prints."""
        # A timeout, because the holder may be the thread that was interrupted right here.
        self.ending.acquire(timeout=1)
        with suppress(OSError):
            text = f"{SHOW_CURSOR if os.isatty(2) else ''}{self.message}\n"
            # Past `sys.stderr`, whose lock the interrupted thread may hold.
            os.write(2, text.encode(errors="backslashreplace"))
        # The shell's number for a signal; a normal exit would wait for threads of native code.
        os._exit(128 + self.number)


_watches: list[_Watch] = []


def install_handlers(message: str, patience: float = CLEANUP_SECONDS) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end this process with status 128 plus their number; call it in the main thread.

    Signals that are ignored remain ignored, such as those of background jobs or under nohup. A second Ctrl-C ends the
    process at once.

    Args:
        message: Message to print on stderr at the end.
        patience: Seconds for the process to clean up.
    """
    available = [number for name in NAMES if (number := getattr(signal, name, None)) is not None]
    # nohup and `&` in scripts ignore signals on purpose.
    numbers = frozenset(number for number in available if signal.getsignal(number) is not signal.SIG_IGN)
    heard, wake = socket.socketpair()
    # Python requires it of a wakeup descriptor: the C handler must never block.
    wake.setblocking(False)
    watch = _Watch(message, patience, heard, wake)
    _watches[:] = [watch]
    # Before the handlers: a signal between the two lines would pass the thread by.
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, watch.handle)
    _hide_signal_tracebacks()
    threading.Thread(target=watch.run, args=(numbers,), name="signals", daemon=True).start()


@contextmanager
def end_on_signals(message: str, patience: float = CLEANUP_SECONDS) -> Iterator[None]:
    """Let signals end this process during the block, see `install_handlers`, and after it, see `end_if_signalled`.

    After a signal, the process ends as interrupted, whatever the block returns or raises: a library may have converted
    the signal to an error.
    """
    install_handlers(message, patience)
    try:
        try:
            yield
        finally:
            end_if_signalled()
    except SIGNALLED:  # it came between two instructions of the line above
        end_if_signalled()


def end_if_signalled() -> None:
    """End the process if a signal has arrived; later signals have no effect."""
    for watch in _watches:
        watch.over = True
        if watch.number:
            watch.end()


def is_unwinding() -> bool:
    """Whether the main thread handles the exception of a signal, or an error caused by it."""
    handled: Any = sys._current_exceptions().get(threading.main_thread().ident or 0)
    error = handled[1] if isinstance(handled, tuple) else handled  # a tuple before Python 3.12
    visited = set[int]()
    # A library may have chained errors to a circle.
    while error is not None and id(error) not in visited:
        if isinstance(error, SIGNALLED):
            return True
        visited.add(id(error))
        # Not `__cause__`: `raise ... from None` hides that, but the context stays.
        error = error.__context__
    return False


def _hide_signal_tracebacks() -> None:
    """Hide the traceback of a signal that arrives where nothing can be raised, such as in a destructor."""
    usual = sys.unraisablehook

    def ignore_signals(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, SIGNALLED):
            usual(unraisable)

    sys.unraisablehook = ignore_signals
