"""From timings, sizes and memory to the rows, tables and notes of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from effxfer.benchmark.machine import facts as machine
from effxfer.benchmark.measure.cold_start import Cold
from effxfer.benchmark.measure.memory import Memory
from effxfer.benchmark.measure.size import COMPRESSION, Size
from effxfer.benchmark.protocol.latency import MIN_ROUNDS, Timing
from effxfer.report import Measurement, Report, Table

AGAIN = "baseline again"
MACHINE = "Machine"


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was measured, each by the name of the model.

    Attributes:
        timings: Of every model, the baseline first, and of the baseline again under `AGAIN`.
        baseline: What ratios refer to.
        batch: Images per call that were asked for.
        batches: Images per call that each was fed; a file may fix its own.
        sizes: Of files.
        peaks: Peak memory; empty if it was not measured.
        cold: Cold starts; empty if they were not measured.
    """

    timings: Sequence[Timing]
    baseline: str
    batch: int
    batches: Mapping[str, int]
    sizes: Mapping[str, Size]
    peaks: Mapping[str, Memory | None]
    cold: Mapping[str, Sequence[Cold]]

    def comparable(self, name: str) -> bool:
        """Whether a model was fed as many images per call as the baseline: else a ratio would mean nothing."""
        return self.batches[name] == self.batches[self.baseline]


def report(found: Found, precision: float) -> Report:
    """Lay out what `bench_models` measured."""
    rows: list[Measurement] = []
    models = [timing for timing in found.timings if timing.name != AGAIN]
    for timing in models:
        rows += _rows(timing, found)
    rows += [_ratio("noise", _again(found)), Measurement(name="threads", value=found.timings[0].threads)]
    title = f"Models against {found.baseline}"
    tables = [Table(title=title, rows=tuple(_line(timing, found) for timing in models))]
    tables.append(
        Table(title="Start", rows=tuple(_start(timing, found) for timing in models if timing.name in found.sizes))
    )
    tables.append(facts_table())
    return Report(rows=tuple(rows), notes=tuple(_notes(found, precision)), tables=tuple(tables))


def facts_table() -> Table:
    """What of this machine the figures depend on, so that they can be compared with those of another one."""
    known = machine.facts()
    kept = ("cpu", "arch", "cores", "usable", "quota", "used", "flags", "memory_gb", "governor", "load", "os")
    facts = {name: known[name] for name in kept} | {"onnxruntime": known["packages"].get("onnxruntime")}
    rows = [{"fact": name, "found": _text(value)} for name, value in facts.items() if value is not None]
    return Table(title=MACHINE, rows=tuple(rows))


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _again(found: Found) -> Timing:
    return next(timing for timing in found.timings if timing.name == AGAIN)


def _rows(timing: Timing, found: Found) -> list[Measurement]:
    name, size, peak = timing.name, found.sizes.get(timing.name), found.peaks.get(timing.name)
    rows = [
        Measurement(name=f"p50/{name}", value=timing.p50, unit="ms", n=timing.n),
        Measurement(name=f"p95/{name}", value=timing.p95, unit="ms", n=timing.n),
        *([_ratio(f"ratio/{name}", timing)] if found.comparable(name) else []),
        Measurement(name=f"batch/{name}", value=found.batches[name]),
        Measurement(
            name=f"throughput/{name}", value=throughput(timing, found.batches[name]), unit="images/s", n=timing.n
        ),
    ]
    if found.cold.get(name):
        rows.append(Measurement.spread(f"cold/{name}", [one.total_ms for one in found.cold[name]], "ms"))
    if size:
        of = f"{size.params / 1e6:.4g} M parameters"
        rows += [
            Measurement(name=f"size/{name}", value=size.mb, unit="MB"),
            Measurement(name=f"compressed/{name}", value=size.compressed_mb, unit="MB"),
            Measurement(name=f"nonzero/{name}", value=size.nonzero / 1e6, unit="M", of=of),
        ]
    return rows + ([Measurement(name=f"memory/{name}", value=peak.model_mb, unit="MB")] if peak else [])


def throughput(timing: Timing, batch: int) -> float:
    """Give images per second: the mean, not the median, because slow calls take their time as well."""
    return 1e3 * batch / timing.mean


def _ratio(name: str, timing: Timing) -> Measurement:
    return Measurement(
        name=name, value=timing.ratio, unit="x", low=timing.ratio_low, high=timing.ratio_high, n=timing.rounds
    )


def span(timing: Timing) -> str:
    """Write a ratio with its interval; without one where it is known exactly."""
    certain = timing.ratio_low == timing.ratio_high
    return f"{timing.ratio:.3f}" + ("" if certain else f" [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]")


def _line(timing: Timing, found: Found) -> dict[str, Any]:
    size, peak = found.sizes.get(timing.name), found.peaks.get(timing.name)
    return {
        "model": timing.name,
        "batch": found.batches[timing.name],
        "p50 ms": timing.p50,
        "p95 ms": timing.p95,
        "p99 ms": timing.p99,
        "p50 ratio": span(timing) if found.comparable(timing.name) else None,
        "images/s": throughput(timing, found.batches[timing.name]),
        "size MB": size.mb if size else None,
        "compressed MB": size.compressed_mb if size else None,
        "params M": size.params / 1e6 if size else None,
        "peak MB": peak.model_mb if peak else None,
    }


def _start(timing: Timing, found: Found) -> dict[str, Any]:
    starts = found.cold.get(timing.name)
    return {
        "model": timing.name,
        "cold start ms": median(one.total_ms for one in starts) if starts else None,
        "of it imports ms": median(one.import_ms for one in starts) if starts else None,
        "load ms": timing.load_ms,
        "first ms": timing.first_ms,
        "steady p50 ms": timing.p50,
    }


def _notes(found: Found, precision: float) -> list[str]:
    first, again, baseline = found.timings[0], _again(found), found.baseline
    clock = "processor time" if first.threads == 1 else "wall clock"
    notes = [
        f"latency: {first.rounds} rounds of alternating blocks, one session alive at a time, "
        f"{'batch as in the table' if _apart(found) else f'batch {found.batches[baseline]}'}, "
        f"{first.threads} thread{'s' if first.threads > 1 else ''}, warm-up dropped",
        f"p50 ratio: median over rounds of a model's block median against that of {baseline} in the same round "
        f"({clock}), with its 95 % bootstrap interval; p50, p95, p99 and images/s are wall clock",
        f"noise: {baseline} against itself gave a p50 ratio of {again.ratio:.3f} "
        f"[{again.ratio_low:.3f}, {again.ratio_high:.3f}]; smaller differences mean nothing",
        f"first: first call in a fresh session; load: opening it; compressed: {COMPRESSION}; MB: 10^6 bytes",
    ]
    if any(found.cold.values()):
        runs = max(map(len, found.cold.values()))
        notes.append(
            f"cold start: from the start of a process to its first answer, median of {runs}, file in the cache"
        )
    if any(found.peaks.values()):
        idle = max(peak.idle_mb for peak in found.peaks.values() if peak)
        notes.append(
            f"peak MB: what one model adds in a fresh process to the {idle:.0f} MB of Python with ONNX Runtime"
        )
    return [
        *fixed_batches({name: found.batches[name] for name in found.sizes}, found.batch),
        *notes,
        *_apart(found),
        *_wide(found, precision),
        *doubts(),
    ]


def fixed_batches(batches: Mapping[str, int], asked: int) -> list[str]:
    """Name the models that cannot take the batch that was asked for, one note for each batch that they fix.

    >>> fixed_batches({"a": 4, "b": 1, "c": 4}, 1)
    ['a, c: fed 4 images per call, not 1: the batch is fixed in the file']
    """
    by: dict[int, list[str]] = {}
    for name, batch in batches.items():
        by.setdefault(batch, []).append(name)
    by.pop(asked, None)
    return [
        f"{', '.join(names)}: fed {batch} images per call, not {asked}: the batch is fixed in the file"
        for batch, names in by.items()
    ]


def _apart(found: Found) -> list[str]:
    """Say why some models have no ratio."""
    names = [timing.name for timing in found.timings if not found.comparable(timing.name)]
    if not names:
        return []
    base, others = found.batches[found.baseline], {found.batches[name] for name in names}
    text = f"no p50 ratio for {', '.join(names)}: other images per call than the baseline's {base}"
    return [f"{text}; compare with --batch {base if base != found.batch else min(others)}, if both files take it"]


def _wide(found: Found, precision: float) -> list[str]:
    if found.timings[0].rounds < MIN_ROUNDS:
        return [f"{found.timings[0].rounds} rounds are too few for an interval: give more --max-seconds"]
    ratios = [timing for timing in found.timings if found.comparable(timing.name)]
    far = [t.name for t in ratios if max(t.ratio_high - t.ratio, t.ratio - t.ratio_low) > precision * t.ratio]
    wide = ["the noise" if name == AGAIN else name for name in far]
    if not wide:
        return []
    names = ", ".join(wide[:3]) + (" …" if len(wide) > 3 else "")
    return [f"time was up before the ratio of {names} was known to ±{precision:.1%}: give more --max-seconds"]


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
