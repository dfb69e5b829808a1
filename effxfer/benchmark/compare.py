"""One table of exported models against their baseline: latency, size, memory; and the gates of a CI."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effxfer.benchmark.measure.cold_start import measure_cold
from effxfer.benchmark.measure.memory import measure_memory
from effxfer.benchmark.measure.size import measure_size
from effxfer.benchmark.protocol.latency import Timing, compare, onnx_runner, torch_runner
from effxfer.benchmark.protocol.runners import batch_of, feed_for, torch_input
from effxfer.benchmark.report import AGAIN, Found, report
from effxfer.benchmark.runtimes.registry import Feed, model_of, other_runners
from effxfer.errors import GateError, SettingsError, did_you_mean
from effxfer.report import Report

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
    others: Collection[str] = (),
    threads: int = 1,
    batch: int = 1,
    size: int | None = None,
    block: int = 20,
    warmup: int = 5,
    precision: float = 0.02,
    min_seconds: float = 2.0,
    max_seconds: float = 60.0,
    memory: bool = True,
    cold: int = 0,
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
        nets: Give the torch modules of models, for runtimes that convert them.
        others: Keys of `others.OTHERS`: runtimes to time the models in, too, where they are installed.
        threads: Threads of every session.
        batch: Images per call; a file that fixes its own is fed that, and compared only with others fed as many.
        size: Value of free axes other than the batch; None for what the file states, see `feed_for`.
        block: Timed calls per block.
        warmup: Calls dropped at the start of each block.
        precision: See `latency.compare`.
        min_seconds: See `latency.compare`.
        max_seconds: See `latency.compare`.
        memory: Measure peak memory, one fresh process per model.
        cold: Fresh processes per model in which the time to the first answer is measured.
        max_p50_ratio: Gate: largest allowed ratio of median latencies to the baseline; None for no gate.
        max_mb: Gate: largest allowed file in MB (10^6 bytes); None for no gate.
        gated: Models the gates apply to; None for all but the baseline (for the baseline if it is alone).
        seed: Of input values, order and bootstrap.

    Returns:
        Tables of the models, of how they start, and of the machine; per model the rows `p50/NAME`, `p95/NAME`,
        `ratio/NAME` (where it was fed as many images as the baseline), `batch/NAME`, `throughput/NAME`, `cold/NAME`,
        `size/NAME`, `compressed/NAME`, `nonzero/NAME` and `memory/NAME`; `noise`; `threads`; notes on the protocol and
        on what makes the figures doubtful.

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
    more, notes = other_runners(models, feeds, nets, wanted=others, threads=threads)
    timings = compare(
        runners | more,
        baseline=baseline,
        threads=threads,
        block=block,
        warmup=warmup,
        precision=precision,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        seed=seed,
    )
    found = Found(
        timings=timings, baseline=baseline, batch=batch, batches=_batches(timings, feeds, baseline), sizes=sizes,
        peaks={name: measure_memory(file, feeds[name], threads=threads) for name, file in models.items() if memory},
        cold=measure_cold(models, feeds, threads=threads, runs=cold),
    )  # fmt: skip
    measured = report(found, precision) + Report(notes=tuple(notes))
    enforce(measured, chosen, max_p50_ratio=max_p50_ratio, max_mb=max_mb)
    return measured


def enforce(report: Report, names: Collection[str], *, max_p50_ratio: float | None, max_mb: float | None) -> None:
    """Hold models of a report against limits; `bench_models` without limits and this show the table first.

    Raises:
        GateError: If a limit is exceeded; all that are exceeded are listed with measured and allowed value.
    """
    missed = failures(report, names, max_p50_ratio, max_mb)
    if missed:
        raise GateError("; ".join(missed), "prune further, quantize, or allow more with `max_p50_ratio` and `max_mb`")


def failures(report: Report, names: Collection[str], max_p50_ratio: float | None, max_mb: float | None) -> list[str]:
    """List which limits the named models of `report` exceed; empty if none."""
    found = []
    for name in names:
        mb = report[f"size/{name}"].value
        found += _too_slow(report, name, max_p50_ratio) if max_p50_ratio is not None else []
        if max_mb is not None and mb > max_mb:
            found.append(f"{name}: {mb:.3f} MB, allowed {max_mb:g} MB")
    return found


def _too_slow(report: Report, name: str, limit: float) -> list[str]:
    """Say that a model's ratio exceeds a limit, or that there is none to hold against it."""
    ratio = next((row for row in report.rows if row.name == f"ratio/{name}"), None)
    if ratio is None:
        return [f"{name}: no p50 ratio to hold against {limit:g}: it takes other images per call than the baseline"]
    span = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    return [f"{name}: p50 ratio {span} to the baseline, allowed {limit:g}"] if ratio.value > limit else []


def _batches(timings: Sequence[Timing], feeds: Mapping[str, Feed], baseline: str) -> dict[str, int]:
    """How many images a call of each took, by name; the eager baseline and other runtimes are fed what the file is."""
    sources = {AGAIN: baseline, EAGER: baseline}
    owners = {timing.name: sources.get(timing.name) or model_of(timing.name, feeds) for timing in timings}
    return {name: batch_of(feeds[owner]) for name, owner in owners.items()}


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
