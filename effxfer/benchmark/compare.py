"""Compare exported models with a baseline by latency, size and memory, and enforce the limits of a CI."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effxfer.benchmark.measure.cold_start import measure_cold_start
from effxfer.benchmark.measure.memory import measure_memory
from effxfer.benchmark.measure.size import measure_size
from effxfer.benchmark.protocol.latency import (
    BLOCK,
    MAX_SECONDS,
    MIN_SECONDS,
    PRECISION,
    WARMUP,
    Timing,
    compare,
    torch_runner,
)
from effxfer.benchmark.protocol.runners import batch_of, feed_for, torch_input, unit_of
from effxfer.benchmark.report import REPEAT, BenchResult, report
from effxfer.benchmark.runtimes.faster import faster_notes, own_notes
from effxfer.benchmark.runtimes.registry import NO_RUNTIMES, Feed, model_name, runner_in, runtime_runners
from effxfer.errors import GateError, SettingsError, did_you_mean
from effxfer.report import Report
from effxfer.runtime.session import ONNXRUNTIME

if TYPE_CHECKING:
    import torch

EAGER = "torch eager dense"
NO_NETS: "Mapping[str, Callable[[], torch.nn.Module]]" = {}


def bench_models(
    models: Mapping[str, Path],
    *,
    baseline: str,
    torch_dense: "Callable[[], torch.nn.Module] | None" = None,
    nets: "Mapping[str, Callable[[], torch.nn.Module]]" = NO_NETS,
    runtimes: Collection[str] = (),
    threads: int = 1,
    batch: int = 1,
    size: int | None = None,
    block: int = BLOCK,
    warmup: int = WARMUP,
    precision: float = PRECISION,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
    memory: bool = True,
    cold: int = 0,
    max_p50_ratio: float | None = None,
    max_mb: float | None = None,
    gated: Collection[str] | None = None,
    seed: int = 0,
    own_runtimes: Mapping[str, str] = NO_RUNTIMES,
) -> Report:
    """Measure models side by side.

    The baseline is measured twice; the difference of the two is reported as the noise of the measurement.

    Args:
        models: ONNX files by their name in the report.
        baseline: Name of the model that ratios refer to, usually dense fp32.
        torch_dense: Builds the baseline's torch module, which is timed eagerly on the baseline's input as float32;
            None omits it.
        nets: Build the torch modules of models, for runtimes that convert them.
        runtimes: Keys of `registry.RUNTIMES`: other runtimes to time the models in, where they are installed.
        threads: Threads of every session.
        batch: Images per call; a file with a fixed batch takes that, and is compared only with files of the same batch.
        size: Value of free axes other than the batch; None uses that of the file, see `feed_for`.
        block: Timed calls per block.
        warmup: Calls dropped at the start of each block.
        precision: See `latency.compare`.
        min_seconds: See `latency.compare`.
        max_seconds: See `latency.compare`.
        memory: Measure peak memory, one fresh process per model.
        cold: Number of fresh processes per model to measure the time to the first output.
        max_p50_ratio: Gate: largest allowed ratio of median latencies to the baseline; None for no gate.
        max_mb: Gate: largest allowed file in MB (10^6 bytes); None for no gate.
        gated: Models the gates apply to; None for all but the baseline, or for the only model.
        seed: Seed of input values, order and bootstrap.
        own_runtimes: What models were exported for, by name: they are timed in it under their name, and beside it in
            ONNX Runtime; those that are not named were exported for ONNX Runtime.

    Returns:
        Tables of the models, their start and the machine; per model the rows `p50/NAME`, `p95/NAME`,
        `ratio/NAME` (if it took as many images per call as the baseline), `batch/NAME`, `throughput/NAME`, `cold/NAME`,
        `size/NAME`, `compressed/NAME`, `nonzero/NAME` and `memory/NAME`; `noise`; `threads`; notes on the protocol and
        on doubts about the figures.

    Raises:
        SettingsError: If the baseline or a gated name is not among the models.
        ModelFileError: If a file cannot be run.
        GateError: If a gate is exceeded; the error lists all of them with measured and allowed value.
    """
    gated_models = select_gated(models, baseline, gated, max_p50_ratio)
    sizes = {name: measure_size(file) for name, file in models.items()}
    # Drawn per file: inputs may have other names, types and sides.
    feeds = {name: feed_for(file, batch=batch, size=size, seed=seed) for name, file in models.items()}
    exported_for = {name: own_runtimes.get(name, ONNXRUNTIME) for name in models}
    runners = {name: runner_in(exported_for[name])(file, feeds[name], threads) for name, file in models.items()}
    # The baseline against itself: what it shows is noise, and nothing smaller is a result.
    runners[REPEAT] = runners[baseline]
    if torch_dense:
        runners[EAGER] = torch_runner(torch_dense, torch_input(feeds[baseline]), threads)
    extra, notes = runtime_runners(models, feeds, nets, runtimes=runtimes, threads=threads, exported_for=exported_for)
    timings = compare(
        runners | extra,
        baseline=baseline,
        threads=threads,
        block=block,
        warmup=warmup,
        precision=precision,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        seed=seed,
    )
    result = BenchResult(
        timings=timings, baseline=baseline, batch=batch, batches=_batch_sizes(timings, feeds, baseline), sizes=sizes,
        peaks={
            name: measure_memory(file, feeds[name], threads=threads, runtime=exported_for[name])
            for name, file in models.items() if memory
        },
        cold=measure_cold_start(models, feeds, threads=threads, runs=cold, runtimes=exported_for),
        unit=unit_of(feeds[baseline]),
    )  # fmt: skip
    notes += [*own_notes(exported_for), *faster_notes(timings, exported_for)]
    measured = report(result, precision) + Report(notes=tuple(notes))
    enforce(measured, gated_models, max_p50_ratio=max_p50_ratio, max_mb=max_mb)
    return measured


def enforce(report: Report, names: Collection[str], *, max_p50_ratio: float | None, max_mb: float | None) -> None:
    """Check models of a report against limits, for callers that show the table of `bench_models` first.

    Raises:
        GateError: If a limit is exceeded; the error lists all of them with measured and allowed value.
    """
    missed = exceeded_limits(report, names, max_p50_ratio, max_mb)
    if missed:
        raise GateError("; ".join(missed), "prune further, quantize, or allow more with `max_p50_ratio` and `max_mb`")


def exceeded_limits(
    report: Report, names: Collection[str], max_p50_ratio: float | None, max_mb: float | None
) -> list[str]:
    """List the limits that the named models of `report` exceed; empty if none."""
    exceeded = []
    for name in names:
        mb = report[f"size/{name}"].value
        exceeded += _exceeded_ratio(report, name, max_p50_ratio) if max_p50_ratio is not None else []
        if max_mb is not None and mb > max_mb:
            exceeded.append(f"{name}: {mb:.3f} MB, allowed {max_mb:g} MB")
    return exceeded


def _exceeded_ratio(report: Report, name: str, limit: float) -> list[str]:
    """Report a ratio above its limit, or a missing ratio."""
    ratio = next((row for row in report.rows if row.name == f"ratio/{name}"), None)
    if ratio is None:
        return [f"{name}: no p50 ratio to compare with the limit {limit:g}: its batch differs from the baseline's"]
    span = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    return [f"{name}: p50 ratio {span} to the baseline, allowed {limit:g}"] if ratio.value > limit else []


def _batch_sizes(timings: Sequence[Timing], feeds: Mapping[str, Feed], baseline: str) -> dict[str, int]:
    """Images per call, by name; the eager baseline and other runtimes take the batch of the file."""
    sources = {REPEAT: baseline, EAGER: baseline}
    owners = {timing.name: sources.get(timing.name) or model_name(timing.name, feeds) for timing in timings}
    return {name: batch_of(feeds[owner]) for name, owner in owners.items()}


def select_gated(
    models: Collection[str], baseline: str, gated: Collection[str] | None = None, max_p50_ratio: float | None = None
) -> list[str]:
    """Return the models that limits apply to: `gated`, else all but the baseline, else the baseline.

    Raises:
        SettingsError: If a name is not among the models, or a ratio limit has no model but the baseline.
    """
    for name in (baseline, *(gated or ())):
        if name not in models:
            raise SettingsError(f"no model {name!r}{did_you_mean(name, models)}", f"models: {', '.join(models)}")
    reserved = {REPEAT, EAGER} & set(models)
    if reserved:
        raise SettingsError(
            f"the name {min(reserved)!r} is reserved for the measurement itself", "give the model another name"
        )
    candidates = [name for name in models if name != baseline]
    if max_p50_ratio is not None and not candidates:
        raise SettingsError("a ratio needs a model beside the baseline", "name a second model, or omit `max_p50_ratio`")
    return list(gated) if gated is not None else (candidates or [baseline])
