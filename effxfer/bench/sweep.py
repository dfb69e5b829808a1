"""The same models at several thread counts and batch sizes: where more of either pays."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from effxfer.bench.latency import Timing, compare, onnx_runner
from effxfer.bench.memory import Memory, measure_memory
from effxfer.bench.runners import feed_for
from effxfer.bench.table import span, throughput
from effxfer.report import Measurement, Report, Table

TITLE = "Threads and batches"


def sweep(
    models: Mapping[str, Path], *, baseline: str, threads: Sequence[int], batches: Sequence[int],
    size: int | None = None, precision: float = 0.02, max_seconds: float = 60.0, memory: bool = True, seed: int = 0,
) -> Report:  # fmt: skip
    """Time models at every pair of a thread count and a batch size.

    Args:
        models: ONNX files by name.
        baseline: What ratios refer to, at the same threads and batch.
        threads: Threads of every session, one after the other.
        batches: Images per call, one after the other.
        size: As in `bench_models`.
        precision: As in `latency.compare`.
        max_seconds: For all pairs together.
        memory: Measure peak memory at every pair.
        seed: As in `bench_models`.

    Returns:
        One table, and per pair and model the rows `sweep/p50/NAME/T threads/batch B` and `sweep/throughput/…`.
    """
    pairs = list(product(dict.fromkeys(threads), dict.fromkeys(batches)))
    rows: list[Measurement] = []
    lines: list[dict[str, Any]] = []
    for count, batch in pairs:
        feeds = {name: feed_for(file, batch=batch, size=size, seed=seed) for name, file in models.items()}
        share = max_seconds / len(pairs)
        timings = compare(
            {name: onnx_runner(file, feeds[name], count) for name, file in models.items()}, baseline=baseline,
            threads=count, precision=precision, min_seconds=min(2.0, share), max_seconds=share, seed=seed,
        )  # fmt: skip
        for timing in timings:
            name = timing.name
            peak = measure_memory(models[name], feeds[name], threads=count) if memory else None
            rows += _rows(timing, batch)
            lines.append(_line(timing, batch, peak))
    return Report(rows=tuple(rows), tables=(Table(title=TITLE, rows=tuple(lines)),))


def _rows(timing: Timing, batch: int) -> list[Measurement]:
    where = f"{timing.name}/{timing.threads} threads/batch {batch}"
    return [
        Measurement(name=f"sweep/p50/{where}", value=timing.p50, unit="ms", n=timing.n),
        Measurement(name=f"sweep/throughput/{where}", value=throughput(timing, batch), unit="images/s", n=timing.n),
    ]


def _line(timing: Timing, batch: int, peak: Memory | None) -> dict[str, Any]:
    return {
        "model": timing.name,
        "threads": timing.threads,
        "batch": batch,
        "p50 ms": timing.p50,
        "p95 ms": timing.p95,
        "ms per image": timing.p50 / batch,
        "images/s": throughput(timing, batch),
        "p50 ratio": span(timing),
        "peak MB": peak.model_mb if peak else None,
    }
