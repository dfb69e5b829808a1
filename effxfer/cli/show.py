"""Print progress to stderr, and results to stdout followed by the command that reproduces them."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Any

from effxfer.cli.command_line import reproduce
from effxfer.process.rank import leads
from effxfer.progress import Advance, show_through
from effxfer.report import Report
from effxfer.runtime.printing import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from effxfer.api import Reported

# Between two lines of progress. Chosen: a log of an hour has 360; shorter steps leave none.
SECONDS = 10


@contextmanager
def progress() -> Iterator[None]:
    """Show progress: bars on a terminal, else a line every ten seconds."""
    with show_through(_bar if sys.stderr.isatty() else _lines, lambda text: say(f"note: {text}")):
        yield


def say(text: str) -> None:
    """Print a message that is not part of the result to stderr."""
    if leads():
        print(printable(text), file=sys.stderr, flush=True)


def result(reported: "Reported", as_json: bool) -> None:
    """Print the result of an api function and the command that reproduces it; as JSON, in one object."""
    if as_json:
        document(reported.to_json())
    elif leads():
        print(reported, reproduce(), sep="\n")


def report(measured: Report, as_json: bool, **facts: Any) -> None:
    """Print a report below facts about it, in the format of `result`."""
    if as_json:
        document({**facts, "report": measured.to_json()})
    elif leads():
        print(*(f"{name}: {printable(value)}" for name, value in facts.items()), measured, reproduce(), sep="\n")


def document(value: Mapping[str, Any]) -> None:
    """Print one JSON object, with the command that reproduces it; NaN and infinity, which JSON lacks, as null."""
    if leads():
        print(json.dumps(_finite_or_null({**value, "command": reproduce()}), indent=1, default=str, allow_nan=False))


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


_displays: list[tuple["Progress", int]] = []


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    shown = _open_display()
    task = shown.add_task(printable(label), total=total or None, text="")
    try:
        yield lambda steps, text: shown.update(task, advance=steps, text=printable(text))
    finally:
        shown.remove_task(task)
        _close_display()


def _open_display() -> "Progress":
    """Return the display of all bars, which begins with the first of them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if _displays:
        shown, bars = _displays.pop()
    else:
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )  # fmt: skip
        shown, bars = Progress(*columns, console=Console(stderr=True), transient=True), 0
        shown.start()
    _displays.append((shown, bars + 1))
    return shown


def _close_display() -> None:
    """End the display with its last bar."""
    shown, bars = _displays.pop()
    if bars > 1:
        _displays.append((shown, bars - 1))
    else:
        shown.stop()


@contextmanager
def _lines(label: str, total: int) -> Iterator[Advance]:
    import time

    completed, last, began = 0, time.monotonic(), time.monotonic()

    def advance(steps: int, text: str) -> None:
        nonlocal completed, last
        completed += steps
        if time.monotonic() - last > SECONDS:
            last = time.monotonic()
            say(f"{label}: {completed} of {total or '?'} {text}")

    yield advance
    if time.monotonic() - began > SECONDS:
        say(f"{label}: {completed} of {total or completed} in {time.monotonic() - began:.0f} s")
