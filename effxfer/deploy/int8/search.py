"""Search over int8 recipes: keep the fastest one that is faster than float and accurate enough.

Which recipe wins depends on the CPU. Without VNNI, sums of two uint8 x int8 products saturate at 16 bits (the
`vpmaddubsw` instruction), which ruins layers whose inputs are large everywhere, first of all the one that sees the
pixels; int8 activations have no fast kernels on x86; and layers with few products per output gain nothing. So every
recipe is run and timed against the float file on the machine at hand.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from effxfer.benchmark.protocol.latency import Timing
from effxfer.deploy.cpu.targets import ANY, Target
from effxfer.deploy.export.external_data import write_sealed
from effxfer.deploy.int8.builder import CandidateBuilder, feeds_of
from effxfer.deploy.int8.evaluation import FP32, CandidateResult, CandidateTimer, Evaluator, prefer_tables
from effxfer.deploy.int8.recipes import DEFAULT, RECIPES
from effxfer.deploy.int8.static import HISTOGRAM_IMAGES
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.files import PARTIAL
from effxfer.pareto import AS_FAST
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.runtime.rows import Rows
from effxfer.runtime.session import ONNXRUNTIME
from effxfer.runtime.threads import usable_cores

Compare = Callable[..., Sequence[Any]]


def quantize(
    fp32: Path,
    out: Path,
    *,
    calibration: Rows,
    rows: Rows,
    labels: Labels,
    output: Output = SINGLE_LABEL,
    max_drop: float = 1.0,
    recipes: Sequence[str] = DEFAULT,
    float_layers: Sequence[str] = (),
    float_operators: Sequence[str] = (),
    images: int = 128,
    threads: int = 1,
    latency_seconds: float = 20.0,
    seed: int = 0,
    compare: Compare | None = None,
    target: Target = ANY,
    max_class_drop: float | None = None,
    runtime: str = ONNXRUNTIME,
) -> tuple[Path | None, Report]:
    """Try int8 recipes on an exported float file and keep the fastest that is good enough.

    Each recipe is screened on part of the validation split, the survivors are timed against the float file in one
    interleaved run, and then measured on the whole split, fastest first. Among recipes within 3 % of the fastest
    accepted one, the most accurate is kept, among those with int8 embedding tables if there are any.

    Args:
        fp32: File that `export_onnx` wrote, or any network's ONNX file.
        out: The int8 file to write. If no recipe is kept, nothing is written, and an older file is removed.
        calibration: uint8 `(K, S, S, 3)` or `Ragged` ids from the training split; `images` of them are used, one of
            each even stretch. Arrays of another type are the file's input itself, `(K, ...)`.
        rows: Those of the whole validation split, N of them, or the file's input itself, as `calibration`.
        labels: The labels of the N examples.
        output: The kind of the labels.
        max_drop: Points of the main metric that int8 may lose against the float file.
        recipes: Keys of `RECIPES`, or `auto` alone.
        float_layers: See `ExportSettings`.
        float_operators: See `ExportSettings`.
        images: Examples to calibrate on.
        threads: Threads of the runtime; 0 is one per core.
        latency_seconds: Time for all recipes together.
        seed: Random seed of the choice of calibration images.
        compare: Times runners; None is `effxfer.benchmark.protocol.latency.compare`.
        target: CPUs that the file is for. Recipes without kernels there are left out, candidates that would saturate
            there are refused, and if they are not like this one, accuracy alone decides among the fastest kinds.
        max_class_drop: Points that int8 may lose in any class of single labels; None for no limit.
        runtime: What runs and times the files, see `effxfer.runtime.model.Model`.

    Returns:
        `out`, or None if no recipe was both faster and good enough; and a report with a table of what was tried.

    Raises:
        ModelFileError: If `fp32` is absent or damaged, or takes images and was not written by effxfer.
    """
    policy = TargetPolicy(target)
    examples = feeds_of(fp32, rows)
    evaluator = Evaluator(
        fp32, rows, labels, max_drop, threads, policy.exact, output, examples.unit, max_class_drop, runtime
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{PARTIAL}{os.getpid()}-int8-", dir=out.parent) as folder:
        builder = CandidateBuilder(fp32, Path(folder), feeds_of(fp32, calibration).subset(images, seed), policy)
        builder.keep_in_float(float_layers, float_operators)
        clock = CandidateTimer(examples=examples, threads=threads, compare=compare, runtime=runtime)
        requested = builder.suitable_recipes(recipes)
        # Screened before they are timed: an inaccurate recipe would take time from the others.
        candidates = [evaluator.screen(candidate) for candidate in builder.candidates(policy.recipes(requested))]
        if policy.timed:
            candidates = _time_candidates(evaluator.dense, candidates, clock, latency_seconds)
            best, candidates = _choose_fastest(evaluator, candidates)
        else:
            best, candidates = policy.choose_untimed(evaluator, candidates)
            candidates = [evaluator.dense, *candidates]
        candidates += [
            CandidateResult(name=name, file=out, verdict=reason)
            for name, reason in policy.exclusions(requested).items()
        ]
        report = _report(candidates, best, threads, output, examples.unit) + Report(
            notes=tuple(_calibration_notes(builder, requested, images))
        )
        if best is None:
            # An older int8 file beside a new float one would be another network.
            out.unlink(missing_ok=True)
            return None, report
        report += policy.report(best, builder.feeds)
        write_sealed(out, best.file.read_bytes())
    return out, report


def _time_candidates(
    dense: CandidateResult, candidates: list[CandidateResult], clock: CandidateTimer, seconds: float
) -> list[CandidateResult]:
    """Time the remaining candidates against the float file; return the float file first."""
    racing = [candidate for candidate in candidates if not candidate.verdict]
    timings = clock(dense, racing, seconds) if racing else {}
    return [replace(candidate, timing=timings.get(candidate.name)) for candidate in (dense, *candidates)]


def _choose_fastest(
    evaluator: Evaluator, candidates: list[CandidateResult]
) -> tuple[CandidateResult | None, list[CandidateResult]]:
    """Measure faster candidates on the whole split, fastest first, until no other one can win."""
    results = {candidate.name: candidate for candidate in candidates}
    accepted: list[CandidateResult] = []
    for candidate in sorted((t for t in candidates if t.timing and t.name != FP32), key=lambda t: t.timing.ratio):
        # The whole interval must lie below: never ship an int8 file that may be slower.
        if candidate.timing.ratio_high >= 1:
            ratio, high = candidate.timing.ratio, candidate.timing.ratio_high
            verdict = f"rejected: not faster than fp32 (ratio {ratio:.2f}, up to {high:.2f})"
            results[candidate.name] = replace(candidate, verdict=verdict)
        elif accepted and is_slower(candidate.timing, accepted[0].timing):
            results[candidate.name] = replace(candidate, verdict=f"slower than {accepted[0].name}")
        else:
            results[candidate.name] = evaluator.measure(candidate)
            accepted += [] if results[candidate.name].verdict else [results[candidate.name]]
    preferred = prefer_tables(accepted)
    # Accuracy first, since all of these are as fast.
    best = max(preferred, key=lambda t: (t.score, -t.timing.ratio), default=None)
    for candidate in accepted:
        reason = "not more accurate" if candidate in preferred else "larger"
        verdict = "kept" if candidate is best else f"as fast as {best.name}, {reason}" if best else ""
        results[candidate.name] = replace(candidate, verdict=verdict)
    return best and results[best.name], list(results.values())


def is_slower(timing: Timing, fastest: Timing) -> bool:
    """Whether a file is slower than the fastest one by more than `AS_FAST`, and by more than the noise.

    On a busy machine the intervals are wide: a difference within them would choose the larger file by chance.
    """
    return timing.ratio > AS_FAST * fastest.ratio and timing.ratio_low > fastest.ratio_high


def _report(
    candidates: list[CandidateResult], best: CandidateResult | None, threads: int, output: Output, unit: str
) -> Report:
    note = (
        f"latency at batch 1, {threads or usable_cores()} threads; ratios are p50 against the float file, 95 % interval"
    )
    table = Table(title="int8 recipes", rows=tuple(candidate.row(output.title, unit) for candidate in candidates))
    if best is None:
        text = "no int8 file: no recipe was both faster than fp32 and within the allowed drop"
        return Report(notes=(text, note), tables=(table,))
    notes = (f"int8 recipe {best.name}", note)
    return Report(rows=_rows(best, output, unit), notes=notes, tables=(table,))


def _calibration_notes(builder: CandidateBuilder, requested: Sequence[str], images: int) -> list[str]:
    """Note the number of calibration images where it is lower than requested."""
    static = {RECIPES[name].calibration for name in requested if RECIPES[name].kind == "static"}
    available, fewer = len(builder.feeds.rows), sorted(static - {"minmax"})
    notes = (
        [f"ranges measured on {available} training {builder.feeds.unit}, not {images}: there are no more"]
        if available < images
        else []
    )
    if fewer and available > HISTOGRAM_IMAGES:
        notes.append(f"{' and '.join(fewer)} ranges measured on {HISTOGRAM_IMAGES} of them, to keep memory small")
    return notes if static else []


def _rows(best: CandidateResult, output: Output, unit: str) -> tuple[Measurement, ...]:
    shares = {f"{output.metric}/int8": best.score, "agreement/int8": best.agreement}
    rows = [Measurement(name=k, value=v or 0.0, unit="%", n=best.n, of=unit) for k, v in shares.items()]
    if t := best.timing:
        ratio = {"value": t.ratio, "low": t.ratio_low, "high": t.ratio_high}
        rows.append(Measurement(name="p50-ratio/int8", unit="x", n=t.n, **ratio))
    return (*rows, Measurement(name="size/int8", value=best.file.stat().st_size / 1e6, unit="MB"))
