"""Throughput of all cores: several processes with few threads each, or one process with all of them."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

from effxfer.benchmark.measure.memory import CHILD
from effxfer.errors import ModelFileError
from effxfer.process import children
from effxfer.process.timing_lock import exclusive_timing
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.session import ONNXRUNTIME

MAX_PROCESSES = (
    16  # processes: each holds a model of its own, and a machine with more cores serves other programs as well
)
ROUNDS = 5  # of each layout, in turns: chosen; the median survives two that a neighbour disturbed
SERVED_BY = "served by"
LEAD = 0.005  # seconds from the signal to the start of a round: processes have read it by then


@dataclass(frozen=True, order=True)
class Layout:
    """How a model is served: so many processes, each with so many threads."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{_count(self.processes, 'process', 'processes')} of {_count(self.threads, 'thread', 'threads')}"


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a layout served.

    Attributes:
        layout: The layout.
        rates: Examples per second of all processes together, one figure for each round.
        p50: Median duration of a call in milliseconds, of all rounds.
    """

    layout: Layout
    rates: Sequence[float]
    p50: float


def layouts(cores: int) -> list[Layout]:
    """Return the ways of dividing `cores` among equal processes, at most `MAX_PROCESSES`; that of one process first."""
    return [Layout(count, cores // count) for count in range(1, min(cores, MAX_PROCESSES) + 1) if cores % count == 0]


@exclusive_timing()
def measure_serving(
    file: Path, feed: Mapping[str, NDArray[Any]], *, cores: int, batch: int = 1, seconds: float = 10.0,
    runtime: str = ONNXRUNTIME,
) -> list[Served]:  # fmt: skip
    """Let every layout serve a model in turns, all its processes at the same time.

    Args:
        file: An ONNX model.
        feed: Arrays by input name; only their shapes and types are used.
        cores: Cores to divide.
        batch: Examples of a call.
        seconds: Time of all rounds together, without the start of the processes.
        runtime: What runs the model, see `effxfer.runtime.model.Model`.

    Returns:
        One entry for each of `layouts(cores)`.

    Raises:
        ModelFileError: If the model does not run.
    """
    shapes = {name: [list(value.shape), str(value.dtype)] for name, value in feed.items()}
    request = {"file": str(file), "feed": shapes, "runtime": runtime, "serve": True}
    ways = layouts(cores)
    window = seconds / (ROUNDS * len(ways))
    rates: dict[Layout, list[float]] = {way: [] for way in ways}
    calls: dict[Layout, list[float]] = {way: [] for way in ways}
    with ExitStack() as stack:
        # All stay open: between rounds they wait for a line, and use no processor time.
        servers = {way: stack.enter_context(_open_servers(way, request)) for way in ways}
        for _ in range(ROUNDS):
            for way in ways:
                durations = _serve_round(servers[way], window, file)
                rates[way].append(batch * len(durations) / window)
                calls[way] += durations
    return [Served(layout=way, rates=rates[way], p50=1e3 * median(calls[way] or [window])) for way in ways]


def serving_report(served: Sequence[Served], name: str, unit: str) -> Report:
    """Return a table of what each layout served, and a sentence on the best one.

    Args:
        served: Result of `measure_serving`, that of one process first.
        name: Name of the model.
        unit: Noun for the examples of a call.
    """
    rows = [
        {
            SERVED_BY: str(entry.layout), f"{unit}/s": median(entry.rates),
            "range": f"{min(entry.rates):.4g} to {max(entry.rates):.4g}", "p50 ms": entry.p50,
            "against one process": median(entry.rates) / median(served[0].rates),
        }
        for entry in served
    ]  # fmt: skip
    best = max(served, key=lambda entry: median(entry.rates))
    note = f"{name} is served best by {best.layout}: {median(best.rates):.4g} {unit}/s"
    # Beyond what rounds differ by: overlapping ranges are no reason to change a server.
    if best is not served[0] and min(best.rates) <= max(served[0].rates):
        note += f"; {served[0].layout} differs by no more than rounds do"
    measurements = [
        Measurement(name=f"serving/{entry.layout}", value=median(entry.rates), unit=f"{unit}/s", n=len(entry.rates))
        for entry in served
    ]
    table = Table(title=f"{name} on {served[0].layout.threads} cores", rows=tuple(rows))
    return Report(rows=tuple(measurements), tables=(table,), notes=(note,))


@contextmanager
def _open_servers(way: Layout, request: Mapping[str, Any]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the processes of a layout; end them after the block."""
    text = json.dumps({**request, "threads": way.threads})
    processes = [children.converse(CHILD, text) for _ in range(way.processes)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _serve_round(processes: Sequence[subprocess.Popen[str]], window: float, file: Path) -> list[float]:
    """Let processes serve from the same moment on; return the durations of all calls in seconds."""
    for process in processes:
        # A line once the model is open, and one after each round.
        _read_line(process, file)
    begin = time.monotonic_ns() + int(1e9 * LEAD)
    for process in processes:
        _stream(process.stdin).write(f"{json.dumps([begin, begin + int(1e9 * window)])}\n")
        _stream(process.stdin).flush()
    return [duration for process in processes for duration in _read_line(process, file)]


def _read_line(process: subprocess.Popen[str], file: Path) -> list[float]:
    line = _stream(process.stdout).readline()
    if not line:
        message = (_stream(process.stderr).read().strip().splitlines() or ["no message"])[-1]
        raise ModelFileError(f"{file} does not run: {message[:300]}", code="E427")
    durations: list[float] = json.loads(line)
    return durations


def _stream(stream: Any) -> Any:
    if stream is None:
        raise ValueError("the process was started without pipes")
    return stream


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
