"""The same models at several thread counts and batch sizes: where more of either pays."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from effxfer.benchmark.measure.memory import Memory, measure_memory
from effxfer.benchmark.protocol.latency import Factory, Timing, compare, onnx_runner
from effxfer.benchmark.protocol.runners import batch_of, feed_for
from effxfer.benchmark.report import span, throughput
from effxfer.report import Measurement, Report, Table

TITLE = "Threads and batches"
FIGURES = ("p50 ms", "p95 ms", "ms per image", "images/s", "p50 ratio", "peak MB")
LEFT = "what the table leaves blank was not measured"


def sweep(
    models: Mapping[str, Path], *, baseline: str, threads: Sequence[int], batches: Sequence[int],
    size: int | None = None, precision: float = 0.02, max_seconds: float = 60.0, memory: bool = True, seed: int = 0,
) -> Report:  # fmt: skip
    """Time models at every pair of a thread count and a batch size.

    Args:
        models: ONNX files by name.
        baseline: What ratios refer to, at the same threads and batch.
        threads: Threads of every session, one after the other.
        batches: Images per call, one after the other; a file that fixes another batch is left out of a pair.
        size: As in `bench_models`.
        precision: As in `latency.compare`.
        max_seconds: For all pairs together.
        memory: Measure peak memory at every pair.
        seed: As in `bench_models`.

    Returns:
        One table, and per pair and model the rows `sweep/p50/NAME/T threads/batch B` and `sweep/throughput/…`; what a
        file cannot take is blank, with a note.
    """
    pairs = list(product(dict.fromkeys(threads), dict.fromkeys(batches)))
    rows: list[Measurement] = []
    lines: list[dict[str, Any]] = []
    fixed: dict[str, int] = {}
    for count, batch in pairs:
        feeds = {name: feed_for(file, batch=batch, size=size, seed=seed) for name, file in models.items()}
        fixed |= {name: batch_of(feed) for name, feed in feeds.items() if batch_of(feed) != batch}
        timings = _timed(
            {name: onnx_runner(models[name], feed, count) for name, feed in feeds.items() if batch_of(feed) == batch},
            baseline, threads=count, precision=precision, max_seconds=max_seconds / len(pairs), seed=seed,
        )  # fmt: skip
        for name, timing in {**dict.fromkeys(models), **timings}.items():
            if timing is None:
                lines.append(_blank(name, count, batch))
                continue
            peak = measure_memory(models[name], feeds[name], threads=count) if memory else None
            rows += _rows(timing, batch)
            lines.append(_line(timing, batch, peak, compared=baseline in timings))
    notes = [f"{name} takes {batch} images per call and no other number: {LEFT}" for name, batch in fixed.items()]
    return Report(rows=tuple(rows), tables=(Table(title=TITLE, rows=tuple(lines)),), notes=tuple(notes))


def _timed(runners: Mapping[str, Factory], baseline: str, *, max_seconds: float, **more: Any) -> dict[str, Timing]:
    """Time what can take a batch; ratios refer to the baseline, where it can."""
    if not runners:
        return {}
    first = baseline if baseline in runners else next(iter(runners))
    timings = compare(
        runners, baseline=first, min_seconds=min(2.0, max_seconds), max_seconds=max_seconds, **more
    )  # fmt: skip
    return {timing.name: timing for timing in timings}


def _rows(timing: Timing, batch: int) -> list[Measurement]:
    where = f"{timing.name}/{timing.threads} threads/batch {batch}"
    return [
        Measurement(name=f"sweep/p50/{where}", value=timing.p50, unit="ms", n=timing.n),
        Measurement(name=f"sweep/throughput/{where}", value=throughput(timing, batch), unit="images/s", n=timing.n),
    ]


def _blank(name: str, threads: int, batch: int) -> dict[str, Any]:
    return {"model": name, "threads": threads, "batch": batch, **dict.fromkeys(FIGURES)}


def _line(timing: Timing, batch: int, peak: Memory | None, *, compared: bool) -> dict[str, Any]:
    return {
        "model": timing.name,
        "threads": timing.threads,
        "batch": batch,
        "p50 ms": timing.p50,
        "p95 ms": timing.p95,
        "ms per image": timing.p50 / batch,
        "images/s": throughput(timing, batch),
        "p50 ratio": span(timing) if compared else None,
        "peak MB": peak.model_mb if peak else None,
    }
