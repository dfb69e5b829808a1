"""Time models at several thread counts and batch sizes, to show which pay off."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from effxfer.benchmark.measure.memory import Memory, measure_memory
from effxfer.benchmark.protocol.latency import (
    MAX_SECONDS,
    MIN_SECONDS,
    PRECISION,
    Factory,
    Timing,
    compare,
)
from effxfer.benchmark.protocol.runners import batch_of, feed_for, unit_of
from effxfer.benchmark.report import span, throughput
from effxfer.benchmark.runtimes.registry import NO_RUNTIMES, runner_in
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.session import ONNXRUNTIME

TITLE = "Threads and batches"
BLANK_NOTE = "blank cells were not measured"


def sweep(
    models: Mapping[str, Path], *, baseline: str, threads: Sequence[int], batches: Sequence[int],
    size: int | None = None, precision: float = PRECISION, max_seconds: float = MAX_SECONDS, memory: bool = True,
    seed: int = 0, own_runtimes: Mapping[str, str] = NO_RUNTIMES,
) -> Report:  # fmt: skip
    """Time models at every pair of a thread count and a batch size.

    Args:
        models: ONNX files by name.
        baseline: Name of the model that ratios refer to, at the same threads and batch.
        threads: Thread counts of the sessions.
        batches: Images per call; a file that fixes another batch is omitted from a pair.
        size: Value of free axes other than the batch; None uses that of the file.
        precision: Width of the ratios' intervals to stop at, see `latency.compare`.
        max_seconds: Time limit for all pairs together.
        memory: Measure peak memory at every pair.
        seed: Seed of input values, order and bootstrap.
        own_runtimes: See `bench_models`.

    Returns:
        One table, and per pair and model the rows `sweep/p50/NAME/T threads/batch B` and `sweep/throughput/…`; pairs
        that a file cannot take are blank, with a note.
    """
    exported_for = {name: own_runtimes.get(name, ONNXRUNTIME) for name in models}
    pairs = list(product(dict.fromkeys(threads), dict.fromkeys(batches)))
    rows: list[Measurement] = []
    table_rows: list[dict[str, Any]] = []
    fixed: dict[str, int] = {}
    unit = unit_of(feed_for(models[baseline], seed=seed))
    for count, batch in pairs:
        feeds = {name: feed_for(file, batch=batch, size=size, seed=seed) for name, file in models.items()}
        fixed |= {name: batch_of(feed) for name, feed in feeds.items() if batch_of(feed) != batch}
        timings = _time_models(
            {
                name: runner_in(exported_for[name])(models[name], feed, count)
                for name, feed in feeds.items() if batch_of(feed) == batch
            },
            # An equal share for each pair.
            baseline, threads=count, precision=precision, max_seconds=max_seconds / len(pairs), seed=seed,
        )  # fmt: skip
        for name, timing in {**dict.fromkeys(models), **timings}.items():
            if timing is None:
                table_rows.append(_blank_row(name, count, batch, unit))
                continue
            peak = (
                measure_memory(models[name], feeds[name], threads=count, runtime=exported_for[name]) if memory else None
            )
            rows += _measurements(timing, batch, unit)
            table_rows.append(_model_row(timing, batch, unit, peak, compared=baseline in timings))
    notes = [f"{name} takes exactly {batch} {unit} per call: {BLANK_NOTE}" for name, batch in fixed.items()]
    return Report(rows=tuple(rows), tables=(Table(title=TITLE, rows=tuple(table_rows)),), notes=tuple(notes))


def _time_models(
    runners: Mapping[str, Factory], baseline: str, *, max_seconds: float, **options: Any
) -> dict[str, Timing]:
    """Time the models that take a batch; ratios refer to the baseline if it is among them."""
    if not runners:
        return {}
    first = baseline if baseline in runners else next(iter(runners))
    timings = compare(
        runners, baseline=first, min_seconds=min(MIN_SECONDS, max_seconds), max_seconds=max_seconds, **options
    )  # fmt: skip
    return {timing.name: timing for timing in timings}


def _measurements(timing: Timing, batch: int, unit: str) -> list[Measurement]:
    suffix = f"{timing.name}/{timing.threads} threads/batch {batch}"
    return [
        Measurement(name=f"sweep/p50/{suffix}", value=timing.p50, unit="ms", n=timing.n),
        Measurement(name=f"sweep/throughput/{suffix}", value=throughput(timing, batch), unit=f"{unit}/s", n=timing.n),
    ]


def _blank_row(name: str, threads: int, batch: int, unit: str) -> dict[str, Any]:
    figures = ("p50 ms", "p95 ms", f"ms per {unit.removesuffix('s')}", f"{unit}/s", "p50 ratio", "peak MB")
    return {"model": name, "threads": threads, "batch": batch, **dict.fromkeys(figures)}


def _model_row(timing: Timing, batch: int, unit: str, peak: Memory | None, *, compared: bool) -> dict[str, Any]:
    return {
        "model": timing.name,
        "threads": timing.threads,
        "batch": batch,
        "p50 ms": timing.p50,
        "p95 ms": timing.p95,
        f"ms per {unit.removesuffix('s')}": timing.p50 / batch,
        f"{unit}/s": throughput(timing, batch),
        "p50 ratio": span(timing) if compared else None,
        "peak MB": peak.model_mb if peak else None,
    }
