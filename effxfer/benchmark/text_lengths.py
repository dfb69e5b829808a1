"""Time models of texts at another length: a text's length is its latency."""

from collections.abc import Mapping
from pathlib import Path

from effxfer.benchmark.protocol.latency import Timing, compare
from effxfer.benchmark.protocol.runners import feed_for, open_session, text_metadata
from effxfer.benchmark.report import span
from effxfer.benchmark.runtimes.registry import NO_RUNTIMES, runner_in
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.session import ONNXRUNTIME

TITLE = "Long texts"


def stated_lengths(file: Path) -> tuple[int, ...]:
    """Return the median and the 95th percentile of the validation texts' tokens that a file states; else nothing.

    Raises:
        ModelFileError: If the file cannot be opened, or its tokenizer is absent or that of another model.
    """
    metadata = text_metadata(file, open_session(file, 1).get_modelmeta().custom_metadata_map)
    return metadata.lengths if metadata else ()


def time_long_texts(
    models: Mapping[str, Path], *, baseline: str, threads: int, batch: int, precision: float, max_seconds: float,
    seed: int = 0, own_runtimes: Mapping[str, str] = NO_RUNTIMES,
) -> Report:  # fmt: skip
    """Time models at the 95th percentile of the length of validation texts, beside the median of `bench_models`.

    Args:
        models: ONNX files by name.
        baseline: Name of the model that ratios refer to; its file says the lengths.
        threads: Threads of every session.
        batch: Texts per call.
        precision: Width of the ratios' intervals to stop at, see `latency.compare`.
        max_seconds: Time limit of all models together.
        seed: Seed of the ids, order and bootstrap.
        own_runtimes: See `bench_models`.

    Returns:
        Per model the rows `length/p50/NAME/N tokens` and `length/ratio/NAME/N tokens`, and a table; nothing for images,
        or where the file says no lengths.
    """
    lengths = stated_lengths(models[baseline])
    if not lengths:
        return Report()
    median, long = lengths[0], lengths[-1]
    feeds = {name: feed_for(file, batch=batch, size=long, seed=seed) for name, file in models.items()}
    timings = compare(
        {n: runner_in(own_runtimes.get(n, ONNXRUNTIME))(file, feeds[n], threads) for n, file in models.items()},
        baseline=baseline, threads=threads, precision=precision, min_seconds=min(2.0, max_seconds),
        max_seconds=max_seconds, seed=seed,
    )  # fmt: skip
    rows = [row for timing in timings for row in _measurements(timing, long)]
    table = Table(
        title=TITLE,
        rows=tuple(
            {"model": t.name, "tokens": long, "p50 ms": t.p50, "p95 ms": t.p95, "p50 ratio": span(t)} for t in timings
        ),
    )
    note = f"latency is that of texts of {median} tokens, the median of validation; {long} are their 95th percentile"
    return Report(rows=tuple(rows), tables=(table,), notes=(note,))


def _measurements(timing: Timing, tokens: int) -> tuple[Measurement, Measurement]:
    name, low, high = f"{timing.name}/{tokens} tokens", timing.ratio_low, timing.ratio_high
    return (
        Measurement(name=f"length/p50/{name}", value=timing.p50, unit="ms", n=timing.n),
        Measurement(name=f"length/ratio/{name}", value=timing.ratio, unit="x", low=low, high=high, n=timing.rounds),
    )
