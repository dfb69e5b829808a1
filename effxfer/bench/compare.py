"""One table of exported models against their baseline: latency, size, memory; and the gates of a CI."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.bench import machine
from effxfer.bench.latency import Timing, compare, onnx_runner, torch_runner
from effxfer.bench.memory import Memory, measure_memory
from effxfer.bench.runners import feed_for
from effxfer.bench.size import COMPRESSION, Size, measure_size
from effxfer.errors import GateError, SettingsError, did_you_mean
from effxfer.report import Measurement, Report, Table

if TYPE_CHECKING:
    import torch

EAGER = "torch eager dense"
AGAIN = "baseline again"


def bench_models(
    models: Mapping[str, Path],
    *,
    baseline: str,
    torch_dense: "Callable[[], torch.nn.Module] | None" = None,
    threads: int = 1,
    batch: int = 1,
    size: int | None = None,
    block: int = 20,
    warmup: int = 5,
    precision: float = 0.02,
    min_seconds: float = 2.0,
    max_seconds: float = 60.0,
    memory: bool = True,
    max_p50_ratio: float | None = None,
    max_mb: float | None = None,
    gated: Collection[str] | None = None,
    seed: int = 0,
) -> Report:
    """Measure models side by side.

    The baseline takes part twice; what the second one differs by is the noise of the measurement and is reported.

    Args:
        models: ONNX files by the name they are reported under.
        baseline: The one that ratios refer to, usually dense fp32.
        torch_dense: Gives the baseline's torch module, to be timed eagerly beside it; its input is the
            baseline's, as float32. None leaves it out.
        threads: Threads of every session.
        batch: Images per call.
        size: Value of free axes other than the batch; None for what the file states, see `feed_for`.
        block: Timed calls per block.
        warmup: Calls dropped at the start of each block.
        precision: See `latency.compare`.
        min_seconds: See `latency.compare`.
        max_seconds: See `latency.compare`.
        memory: Measure peak memory, one fresh process per model.
        max_p50_ratio: Gate: largest allowed ratio of median latencies to the baseline; None for no gate.
        max_mb: Gate: largest allowed file in MB (10^6 bytes); None for no gate.
        gated: Models the gates apply to; None for all but the baseline (for the baseline if it is alone).
        seed: Of input values, order and bootstrap.

    Returns:
        One table; per model the rows `p50/NAME`, `p95/NAME`, `ratio/NAME`, `size/NAME`, `compressed/NAME`,
        `nonzero/NAME` and `memory/NAME`; `noise`; notes on the protocol and on what makes the figures doubtful.

    Raises:
        SettingsError: If the baseline or a gated name is not among the models.
        ModelFileError: If a file cannot be run.
        GateError: If a gate is not met; all that are not met are listed with measured and allowed value.
    """
    chosen = gated_names(models, baseline, gated, max_p50_ratio)
    sizes = {name: measure_size(file) for name, file in models.items()}
    feeds = {name: feed_for(file, batch=batch, size=size, seed=seed) for name, file in models.items()}
    runners = {name: onnx_runner(file, feeds[name], threads) for name, file in models.items()}
    runners[AGAIN] = runners[baseline]
    if torch_dense:
        runners[EAGER] = torch_runner(torch_dense, torch_input(feeds[baseline]), threads)
    timings = compare(
        runners,
        baseline=baseline,
        threads=threads,
        block=block,
        warmup=warmup,
        precision=precision,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        seed=seed,
    )
    peaks = {name: measure_memory(file, feeds[name], threads=threads) for name, file in models.items() if memory}
    report = _report(timings, sizes, peaks, baseline, batch)
    enforce(report, chosen, max_p50_ratio=max_p50_ratio, max_mb=max_mb)
    return report


def enforce(report: Report, names: Collection[str], *, max_p50_ratio: float | None, max_mb: float | None) -> None:
    """Hold models of a report against limits; `bench_models` without limits and this show the table first.

    Raises:
        GateError: If a limit is exceeded; all that are exceeded are listed with measured and allowed value.
    """
    missed = failures(report, names, max_p50_ratio, max_mb)
    if missed:
        raise GateError("; ".join(missed), "prune further, quantize, or allow more with --max-p50-ratio and --max-mb")


def failures(report: Report, names: Collection[str], max_p50_ratio: float | None, max_mb: float | None) -> list[str]:
    """List which limits the named models of `report` exceed; empty if none."""
    found = []
    for name in names:
        ratio, mb = report[f"ratio/{name}"], report[f"size/{name}"].value
        if max_p50_ratio is not None and ratio.value > max_p50_ratio:
            span = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            found.append(f"{name}: p50 ratio {span} to the baseline, allowed {max_p50_ratio:g}")
        if max_mb is not None and mb > max_mb:
            found.append(f"{name}: {mb:.3f} MB, allowed {max_mb:g} MB")
    return found


def gated_names(
    models: Collection[str], baseline: str, gated: Collection[str] | None = None, max_p50_ratio: float | None = None
) -> list[str]:
    """Give the models that limits apply to: those named, else all but the baseline, else the baseline alone.

    Raises:
        SettingsError: If a name is not among the models, or a ratio is asked of the baseline alone.
    """
    for name in (baseline, *(gated or ())):
        if name not in models:
            raise SettingsError(f"no model {name!r}{did_you_mean(name, models)}", f"models: {', '.join(models)}")
    reserved = {AGAIN, EAGER} & set(models)
    if reserved:
        raise SettingsError(
            f"the name {min(reserved)!r} is taken by the measurement itself", "name the model otherwise"
        )
    others = [name for name in models if name != baseline]
    if max_p50_ratio is not None and not others:
        raise SettingsError("a ratio needs a model beside the baseline", "give a second model, or leave out the gate")
    return list(gated) if gated is not None else (others or [baseline])


def torch_input(feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Give the torch module's input for an ONNX feed: its first array as float32, images channels first."""
    value = next(iter(feed.values()))
    if value.dtype == np.uint8 and value.ndim == 4 and value.shape[-1] == 3:
        value = value.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(value, dtype=np.float32)


def _report(
    timings: list[Timing], sizes: Mapping[str, Size], peaks: Mapping[str, Memory | None], baseline: str, batch: int
) -> Report:
    rows: list[Measurement] = []
    lines: list[dict[str, Any]] = []
    for timing in timings:
        if timing.name != AGAIN:
            size, peak = sizes.get(timing.name), peaks.get(timing.name)
            rows += _rows(timing, size, peak)
            lines.append(_line(timing, size, peak))
    again = next(t for t in timings if t.name == AGAIN)
    rows.append(_ratio("noise", again))
    return Report(
        rows=tuple(rows),
        notes=tuple(_notes(timings, baseline, batch, peaks)),
        tables=(Table(title=f"Models against {baseline}", rows=tuple(lines)),),
    )


def _rows(timing: Timing, size: Size | None, peak: Memory | None) -> list[Measurement]:
    name = timing.name
    rows = [
        Measurement(name=f"p50/{name}", value=timing.p50, unit="ms", n=timing.n),
        Measurement(name=f"p95/{name}", value=timing.p95, unit="ms", n=timing.n),
        _ratio(f"ratio/{name}", timing),
    ]
    if size:
        of = f"{size.params / 1e6:.4g} M parameters"
        rows += [
            Measurement(name=f"size/{name}", value=size.mb, unit="MB"),
            Measurement(name=f"compressed/{name}", value=size.compressed_mb, unit="MB"),
            Measurement(name=f"nonzero/{name}", value=size.nonzero / 1e6, unit="M", of=of),
        ]
    return rows + ([Measurement(name=f"memory/{name}", value=peak.model_mb, unit="MB")] if peak else [])


def _ratio(name: str, timing: Timing) -> Measurement:
    return Measurement(
        name=name, value=timing.ratio, unit="x", low=timing.ratio_low, high=timing.ratio_high, n=timing.rounds
    )


def _line(timing: Timing, size: Size | None, peak: Memory | None) -> dict[str, Any]:
    certain = timing.ratio_low == timing.ratio_high
    span = "" if certain else f" [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]"
    return {
        "model": timing.name,
        "p50 ms": timing.p50,
        "p95 ms": timing.p95,
        "p99 ms": timing.p99,
        "p50 ratio": f"{timing.ratio:.3f}{span}",
        "first ms": timing.first_ms,
        "load ms": timing.load_ms,
        "size MB": size.mb if size else None,
        "compressed MB": size.compressed_mb if size else None,
        "params M": size.params / 1e6 if size else None,
        "peak MB": peak.model_mb if peak else None,
    }


def _notes(timings: list[Timing], baseline: str, batch: int, peaks: Mapping[str, Memory | None]) -> list[str]:
    first = timings[0]
    again = next(t for t in timings if t.name == AGAIN)
    notes = [
        f"latency: {first.rounds} rounds of alternating blocks, one session alive at a time, batch {batch}, "
        f"{first.threads} thread{'s' if first.threads > 1 else ''}, warm-up dropped",
        f"p50 ratio: median over rounds of a model's block median against that of {baseline} in the same round, "
        "with its 95 % bootstrap interval",
        f"noise: {baseline} against itself gave a p50 ratio of {again.ratio:.3f} "
        f"[{again.ratio_low:.3f}, {again.ratio_high:.3f}]; smaller differences mean nothing",
        f"first: first call in a fresh session; load: opening it; compressed: {COMPRESSION}; MB: 10^6 bytes",
    ]
    if any(peaks.values()):
        idle = max(peak.idle_mb for peak in peaks.values() if peak)
        notes.append(
            f"peak MB: what one model adds in a fresh process to the {idle:.0f} MB of Python with ONNX Runtime"
        )
    return notes + doubts()


def doubts() -> list[str]:
    """Say what about this machine, at this moment, makes figures doubtful."""
    known = machine.facts()
    notes = []
    if known["load"] is not None and known["load"] > 0.5:
        notes.append(f"the machine was busy: load {known['load']:.2f} per core over the last minute")
    if known["governor"] not in (None, "performance"):
        notes.append(f"the clock speed varied: governor {known['governor']}")
    if not machine.vnni(known):
        notes.append("this CPU has no int8 dot product (VNNI or its like): int8 gains less here than elsewhere")
    return notes
