"""Build the rows, tables and notes of a report from timings, sizes and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from effxfer.benchmark.machine import facts as machine
from effxfer.benchmark.measure.cold_start import ColdStart
from effxfer.benchmark.measure.memory import Memory
from effxfer.benchmark.measure.size import COMPRESSION, Size
from effxfer.benchmark.protocol.latency import MIN_ROUNDS, Timing
from effxfer.report import Measurement, Report, Table

REPEAT = "baseline again"
MACHINE = "Machine"


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """All measurements of a bench, by the name of the model.

    Attributes:
        timings: Timings of every model, the baseline first, and of a repeat of the baseline under `REPEAT`.
        baseline: Name of the model that ratios refer to.
        batch: Requested images per call.
        batches: Actual images per call by model; a file may fix them.
        sizes: File sizes.
        peaks: Peak memory; empty if it was not measured.
        cold: Cold starts; empty if they were not measured.
        unit: Noun for the examples of a call.
    """

    timings: Sequence[Timing]
    baseline: str
    batch: int
    batches: Mapping[str, int]
    sizes: Mapping[str, Size]
    peaks: Mapping[str, Memory | None]
    cold: Mapping[str, Sequence[ColdStart]]
    unit: str = "images"

    def is_comparable(self, name: str) -> bool:
        """Whether a model took as many images per call as the baseline; otherwise a ratio means nothing."""
        return self.batches[name] == self.batches[self.baseline]


def report(result: BenchResult, precision: float) -> Report:
    """Build the report of the measurements of `bench_models`."""
    rows: list[Measurement] = []
    models = [timing for timing in result.timings if timing.name != REPEAT]
    for timing in models:
        rows += _measurements(timing, result)
    rows += [_ratio("noise", _repeat_timing(result)), Measurement(name="threads", value=result.timings[0].threads)]
    title = f"Models against {result.baseline}"
    tables = [Table(title=title, rows=tuple(_model_row(timing, result) for timing in models))]
    tables.append(
        Table(title="Start", rows=tuple(_start_row(timing, result) for timing in models if timing.name in result.sizes))
    )
    tables.append(facts_table())
    return Report(rows=tuple(rows), notes=tuple(_notes(result, precision)), tables=tuple(tables))


def facts_table() -> Table:
    """Table of the machine facts that the figures depend on, to compare them with those of another machine."""
    machine_facts = machine.facts()
    names = ("cpu", "arch", "cores", "usable", "quota", "used", "flags", "memory_gb", "governor", "load", "os")
    facts = {name: machine_facts[name] for name in names} | {
        "onnxruntime": machine_facts["packages"].get("onnxruntime")
    }
    rows = [{"fact": name, "found": _text(value)} for name, value in facts.items() if value is not None]
    return Table(title=MACHINE, rows=tuple(rows))


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _repeat_timing(result: BenchResult) -> Timing:
    return next(timing for timing in result.timings if timing.name == REPEAT)


def _measurements(timing: Timing, result: BenchResult) -> list[Measurement]:
    name, size, peak = timing.name, result.sizes.get(timing.name), result.peaks.get(timing.name)
    rows = [
        Measurement(name=f"p50/{name}", value=timing.p50, unit="ms", n=timing.n),
        Measurement(name=f"p95/{name}", value=timing.p95, unit="ms", n=timing.n),
        *([_ratio(f"ratio/{name}", timing)] if result.is_comparable(name) else []),
        Measurement(name=f"batch/{name}", value=result.batches[name]),
        Measurement(
            name=f"throughput/{name}",
            value=throughput(timing, result.batches[name]),
            unit=f"{result.unit}/s",
            n=timing.n,
        ),
    ]
    if result.cold.get(name):
        rows.append(Measurement.spread(f"cold/{name}", [start.total_ms for start in result.cold[name]], "ms"))
    if size:
        of = f"{size.params / 1e6:.4g} M parameters"
        rows += [
            Measurement(name=f"size/{name}", value=size.mb, unit="MB"),
            Measurement(name=f"compressed/{name}", value=size.compressed_mb, unit="MB"),
            Measurement(name=f"nonzero/{name}", value=size.nonzero / 1e6, unit="M", of=of),
        ]
    return rows + ([Measurement(name=f"memory/{name}", value=peak.model_mb, unit="MB")] if peak else [])


def throughput(timing: Timing, batch: int) -> float:
    """Return images per second, from the mean and not the median, because slow calls count too."""
    return 1e3 * batch / timing.mean


def _ratio(name: str, timing: Timing) -> Measurement:
    return Measurement(
        name=name, value=timing.ratio, unit="x", low=timing.ratio_low, high=timing.ratio_high, n=timing.rounds
    )


def span(timing: Timing) -> str:
    """Format a ratio with its interval, or alone where it is exact."""
    certain = timing.ratio_low == timing.ratio_high
    return f"{timing.ratio:.3f}" + ("" if certain else f" [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]")


def _model_row(timing: Timing, result: BenchResult) -> dict[str, Any]:
    size, peak = result.sizes.get(timing.name), result.peaks.get(timing.name)
    return {
        "model": timing.name,
        "batch": result.batches[timing.name],
        "p50 ms": timing.p50,
        "p95 ms": timing.p95,
        "p99 ms": timing.p99,
        "p50 ratio": span(timing) if result.is_comparable(timing.name) else None,
        f"{result.unit}/s": throughput(timing, result.batches[timing.name]),
        "size MB": size.mb if size else None,
        "compressed MB": size.compressed_mb if size else None,
        "params M": size.params / 1e6 if size else None,
        "peak MB": peak.model_mb if peak else None,
    }


def _start_row(timing: Timing, result: BenchResult) -> dict[str, Any]:
    starts = result.cold.get(timing.name)
    return {
        "model": timing.name,
        "cold start ms": median(start.total_ms for start in starts) if starts else None,
        "of it imports ms": median(start.import_ms for start in starts) if starts else None,
        "load ms": timing.load_ms,
        "first ms": timing.first_ms,
        "steady p50 ms": timing.p50,
    }


def _notes(result: BenchResult, precision: float) -> list[str]:
    baseline_timing, repeat, baseline = result.timings[0], _repeat_timing(result), result.baseline
    clock = "processor time" if baseline_timing.threads == 1 else "wall clock"
    notes = [
        f"latency: {baseline_timing.rounds} rounds of alternating blocks, one session alive at a time, "
        f"{'batch as in the table' if _other_batches(result) else f'batch {result.batches[baseline]}'}, "
        f"{baseline_timing.threads} thread{'s' if baseline_timing.threads > 1 else ''}, warm-up dropped",
        f"p50 ratio: median over rounds of a model's block median against that of {baseline} in the same round "
        f"({clock}), with its 95 % bootstrap interval; p50, p95, p99 and {result.unit}/s are wall clock",
        f"noise: {baseline} against itself has a p50 ratio of {repeat.ratio:.3f} "
        f"[{repeat.ratio_low:.3f}, {repeat.ratio_high:.3f}]; smaller differences are noise",
        f"first: first call in a fresh session; load: opening it; compressed: {COMPRESSION}; MB: 10^6 bytes",
    ]
    if any(result.cold.values()):
        runs = max(map(len, result.cold.values()))
        notes.append(
            f"cold start: from the start of a process to its first answer, median of {runs}, file in the cache"
        )
    if any(result.peaks.values()):
        idle = max(peak.idle_mb for peak in result.peaks.values() if peak)
        notes.append(
            f"peak MB: what one model adds in a fresh process to the {idle:.0f} MB of Python with ONNX Runtime"
        )
    return [
        *fixed_batches({name: result.batches[name] for name in result.sizes}, result.batch, result.unit),
        *notes,
        *_other_batches(result),
        *_wide_intervals(result, precision),
        *doubts(),
    ]


def fixed_batches(batches: Mapping[str, int], requested: int, unit: str = "images") -> list[str]:
    """Name the models that cannot take the requested batch, in one note per batch that they fix.

    >>> fixed_batches({"a": 4, "b": 1, "c": 4}, 1)
    ['a, c: fed 4 images per call, not 1: the batch is fixed in the file']
    """
    names_by_batch: dict[int, list[str]] = {}
    for name, batch in batches.items():
        names_by_batch.setdefault(batch, []).append(name)
    names_by_batch.pop(requested, None)
    return [
        f"{', '.join(names)}: fed {batch} {unit} per call, not {requested}: the batch is fixed in the file"
        for batch, names in names_by_batch.items()
    ]


def _other_batches(result: BenchResult) -> list[str]:
    """Note why some models have no ratio."""
    names = [timing.name for timing in result.timings if not result.is_comparable(timing.name)]
    if not names:
        return []
    base, other_batches = result.batches[result.baseline], {result.batches[name] for name in names}
    text = f"no p50 ratio for {', '.join(names)}: they do not take the baseline's {base} {result.unit} per call"
    batch = base if base != result.batch else min(other_batches)
    return [f"{text}; compare with `batch={batch}`, if both files take it"]


def _wide_intervals(result: BenchResult, precision: float) -> list[str]:
    if result.timings[0].rounds < MIN_ROUNDS:
        return [f"{result.timings[0].rounds} rounds are too few for an interval: raise `max_seconds`"]
    ratios = [timing for timing in result.timings if result.is_comparable(timing.name)]
    far = [t.name for t in ratios if max(t.ratio_high - t.ratio, t.ratio - t.ratio_low) > precision * t.ratio]
    wide = ["the noise" if name == REPEAT else name for name in far]
    if not wide:
        return []
    names = ", ".join(wide[:3]) + (" …" if len(wide) > 3 else "")
    return [f"time was up before the ratio of {names} was known to ±{precision:.1%}: raise `max_seconds`"]


def doubts() -> list[str]:
    """List what makes the figures of this machine doubtful at the moment."""
    machine_facts = machine.facts()
    notes = []
    # Chosen: the bench itself, one thread, is 0.5 of two cores.
    if machine_facts["load"] is not None and machine_facts["load"] > 0.5:
        notes.append(f"the machine was busy: load {machine_facts['load']:.2f} per core over the last minute")
    if machine_facts["governor"] not in (None, "performance"):
        notes.append(f"the clock speed varied: governor {machine_facts['governor']}")
    if not machine.vnni(machine_facts):
        notes.append("this CPU has no int8 dot product (VNNI or similar): int8 gains less here than on others")
    return notes
