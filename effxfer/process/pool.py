"""Run work in several child processes, show their progress, and bring their errors back."""

import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from effxfer import progress
from effxfer.errors import ResourceError
from effxfer.files import write_atomic
from effxfer.process import children
from effxfer.process.pool_child import GRACE, MARK, OUTCOME, error_from_json

POLL = 0.2  # seconds between looks whether a child has ended without closing its output: chosen
LAST_LINES = 5  # of a child's output, to say why it died
# Variables that set the threads of torch, OpenMP and the libraries below numpy.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of one piece of work.

    Attributes:
        name: Its name.
        error: The error that it raised; None if it succeeded.
    """

    name: str
    error: Exception | None


class Executor(Protocol):
    """Where pieces of work run, several at a time."""

    @property
    def size(self) -> int:
        """How many run at a time."""

    def start(self, name: str, module: str, request: Mapping[str, Any]) -> None:
        """Start a module of effxfer, which calls `pool_child.serve` with the file of the request.

        Args:
            name: Unique name, also for progress; letters, digits and `-`.
            module: The module.
            request: What it is to do, as JSON types.
        """

    def wait(self) -> Outcome:
        """Wait until one of those that were started ends."""

    def stop(self, names: Iterable[str]) -> None:
        """Stop some of them, which can be resumed."""


@dataclass(kw_only=True)
class _Child:
    """A running child.

    Attributes:
        process: The process.
        output: Reading end of its output.
        request: File of its request.
        tail: Output after the last end of a line.
        lines: Its last lines that are no messages.
        bars: Open progress bars, by the child's numbers.
    """

    process: subprocess.Popen[bytes]
    output: int
    request: Path
    tail: bytes = b""
    lines: list[str] = field(default_factory=list)
    bars: dict[int, tuple[AbstractContextManager[progress.Advance], progress.Advance]] = field(default_factory=dict)


class ChildPool:
    """Child processes on this machine, which end with this process; use it as a context manager, in the main thread.

    Args:
        folder: An empty folder for requests, outcomes and locks.
        size: How many children run at a time.
        threads: Threads of torch in each of them.
        locks: Folder of the locks of the parallel run, if this process is a child itself; None for `folder`.
    """

    def __init__(self, folder: Path, *, size: int, threads: int, locks: Path | None = None) -> None:
        self.folder, self._size, self.threads, self.locks = folder, size, threads, locks or folder
        self.children: dict[str, _Child] = {}
        self.selector = selectors.DefaultSelector()

    @property
    def size(self) -> int:
        """How many children run at a time."""
        return self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(list(self.children))
        self.selector.close()

    def start(self, name: str, module: str, request: Mapping[str, Any]) -> None:
        """Start a child; see `Executor.start`."""
        shared = {"locks": str(self.locks), "jobs": self.size, "threads": self.threads}
        file = write_atomic(self.folder / f"{name}.json", json.dumps({**request, **shared}))
        file.with_suffix(OUTCOME).unlink(missing_ok=True)
        output, log = os.pipe()
        with open(log, "wb") as stream:  # noqa: PTH123 (a descriptor)
            process = children.start(module, str(file), log=stream, variables=dict.fromkeys(THREADS, str(self.threads)))
        os.set_blocking(output, False)
        self.children[name] = _Child(process=process, output=output, request=file)
        self.selector.register(output, selectors.EVENT_READ, name)

    def wait(self) -> Outcome:
        """Show progress until a child ends; return its outcome."""
        while True:
            for name, child in self.children.items():
                if child.process.poll() is not None:
                    return self._end(name)
            for key, _ in self.selector.select(POLL):
                if not self._read(key.data):
                    # It closed its output, and is about to end.
                    self.children[key.data].process.wait()

    def stop(self, names: Iterable[str]) -> None:
        """Stop children with SIGTERM, and after three seconds with SIGKILL."""
        stopped = {name: self.children[name] for name in names if name in self.children}
        for child in stopped.values():
            with suppress(OSError):
                child.process.terminate()
        # One deadline for all of them.
        until = time.monotonic() + GRACE
        for name, child in stopped.items():
            try:
                child.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            self._close(name)

    def _end(self, name: str) -> Outcome:
        """Read the rest of the output of a child that has ended, and its outcome."""
        while self._read(name):
            pass
        child = self._close(name)
        file = child.request.with_suffix(OUTCOME)
        if not file.is_file():
            return Outcome(name=name, error=_death_of(name, child))
        failure = json.loads(file.read_text())
        return Outcome(name=name, error=error_from_json(failure) if failure else None)

    def _close(self, name: str) -> _Child:
        child = self.children.pop(name)
        with suppress(KeyError):
            self.selector.unregister(child.output)
        os.close(child.output)
        for bar, _ in reversed(child.bars.values()):
            bar.__exit__(None, None, None)
        return child

    def _read(self, name: str) -> bool:
        """Read and show some output of a child; False if there is none any more, or none now."""
        child = self.children[name]
        try:
            text = os.read(child.output, 2**16)
        except BlockingIOError:
            return False
        *lines, child.tail = (child.tail + text).split(b"\n")
        for line in lines:
            _show(name, child, line.decode(errors="replace"))
        return bool(text)


def _show(name: str, child: _Child, line: str) -> None:
    """Show a line of a child's output: a message about progress, or what a library printed."""
    printed, mark, message = line.partition(MARK)
    if printed.strip():
        child.lines = [*child.lines[1 - LAST_LINES :], printed.rstrip()]
        progress.remark(f"{name}: {printed.rstrip()}")
    if mark:
        _show_message(name, child, json.loads(message))


def _show_message(name: str, child: _Child, message: Mapping[str, Any]) -> None:
    if "remark" in message:
        progress.remark(f"{name}: {message['remark']}")
    elif "open" in message:
        bar = progress.bar(f"{name}: {message['label']}", message["total"])
        child.bars[message["open"]] = bar, bar.__enter__()
    elif "advance" in message:
        child.bars[message["advance"]][1](message["steps"], message["text"])
    elif message["close"] in child.bars:
        bar, advance = child.bars.pop(message["close"])
        advance(message["steps"], "")
        bar.__exit__(None, None, None)


def _death_of(name: str, child: _Child) -> ResourceError:
    """Return the error for a child that ended without an outcome."""
    code = child.process.returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    words = f": {child.lines[-1]}" if child.lines else ""
    hint = "run the same command again, which resumes it; if memory is short, with fewer `jobs`"
    return ResourceError(f"the process of {name} {how}{words}", hint)
