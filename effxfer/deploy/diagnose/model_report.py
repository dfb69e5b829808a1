"""Profile an exported model and report why it is not faster."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.measure.op_costs import COMPUTE, CONVERT, MOVE, bytes_moved, macs
from effxfer.benchmark.measure.profile import Shape, profile
from effxfer.benchmark.protocol.latency import MIN_ROUNDS, Factory, Timing, compare
from effxfer.benchmark.protocol.runners import batch_of, feed_for, onnx_runner, open_session
from effxfer.benchmark.report import doubts, fixed_batches
from effxfer.benchmark.untrusted.sandbox import call_in_sandbox
from effxfer.benchmark.untrusted.vet import is_untrusted, note_unverified
from effxfer.deploy.diagnose.findings import FINDINGS, MIN_MOVING, MIN_ZEROS, Finding
from effxfer.deploy.diagnose.measurements import MIN_GAIN, ProfiledModel, build_alternatives
from effxfer.deploy.graph import qoperators
from effxfer.deploy.graph.graph import Graph, Rewrite, open_graph
from effxfer.deploy.settings import TOLERANCE
from effxfer.errors import ModelFileError
from effxfer.process.scratch import scratch_folder
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.threads import usable_cores

EXAMINE = "effxfer.deploy.diagnose.model_report:examine_to_json"
FILE, REPEAT = "the file", "the file again"
NO_FINDINGS = (
    f"nothing found: no alternative graph is faster by {MIN_GAIN:g} % or more, no layer has {MIN_ZEROS:g} % zeros, "
    f"and data movement takes less than {MIN_MOVING:g} % of the time"
)
Feed = Mapping[str, NDArray[Any]]


def examine(
    file: Path,
    *,
    threads: int = 1,
    batch: int = 1,
    size: int | None = None,
    max_seconds: float = 30.0,
    top: int = 12,
    seed: int = 0,
) -> tuple[Report, list[Finding]]:
    """Profile a model, time alternative graphs in turns with it, and report the findings.

    Args:
        file: An ONNX file of any origin.
        threads: Threads of ONNX Runtime.
        batch: Images per call.
        size: Value of free axes other than the batch; None uses that of the file, see `feed_for`.
        max_seconds: Time limit for all comparisons together, without profiling.
        top: Number of kernels to list.
        seed: Seed of the input and of the order of comparisons.

    Returns:
        A report, and its findings in descending order of the expected gain.

    Raises:
        ModelFileError: If the file is absent, broken, or cannot be run.
    """
    options: dict[str, Any] = {
        "threads": threads,
        "batch": batch,
        "size": size,
        "max_seconds": max_seconds,
        "top": top,
        "seed": seed,
    }
    if not is_untrusted(file):
        return _profile_and_compare(file, **options)
    request = {"file": str(file), **options}
    # 4: profiling, building and the first runs come beside the comparisons.
    plain, rows = call_in_sandbox(EXAMINE, [file], request, seconds=4 * max_seconds, size=size)
    return Report.from_json(plain), [Finding(**{**row, "nodes": tuple(row["nodes"])}) for row in rows]


def examine_to_json(file: str, **options: Any) -> list[Any]:
    """Examine a file in this process; return report and findings as JSON values."""
    report, findings = _profile_and_compare(Path(file), **options)
    return [report.to_json(), [asdict(finding) for finding in findings]]


def _profile_and_compare(
    file: Path, *, threads: int, batch: int, size: int | None, max_seconds: float, top: int, seed: int
) -> tuple[Report, list[Finding]]:
    graph = open_graph(file)
    feed = feed_for(file, batch=batch, size=size, seed=seed)
    profiled = ProfiledModel(graph, feed, profile(file, feed, threads=threads), {}, {})
    profiled = _time_alternatives(profiled, file, threads, max_seconds, seed)
    findings = sorted((finding for find in FINDINGS for finding in find(profiled)), key=lambda finding: -finding.gain)
    return _report(profiled, findings, threads, top) + Report(
        notes=(*_fixed_axes(feed, batch, size), *note_unverified([file]))
    ), findings


def same_outputs(reference: Path, candidate: Path, feed: Feed, tolerance: float = TOLERANCE) -> bool:
    """Whether two models' outputs agree up to `tolerance` of their largest value, or of 1 if that is larger."""
    answers = [open_session(file, 1).run(None, dict(feed)) for file in (reference, candidate)]
    for a, b in zip(*answers, strict=True):
        # 1e-3 of the scale: chosen; rounding of float32 in another order is a thousand times smaller.
        scale = max(1.0, float(np.abs(a).max(initial=0)))
        if a.shape != b.shape or not np.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True):
            return False
    return True


def thread_counts(usable: int) -> list[int]:
    """Return the powers of two up to the usable threads, and that number itself.

    >>> thread_counts(6)
    [1, 2, 4, 6]
    """
    return sorted({usable, *(2**i for i in range(usable.bit_length()) if 2**i <= usable)})


def _time_alternatives(profiled: ProfiledModel, file: Path, threads: int, seconds: float, seed: int) -> ProfiledModel:
    """Time all alternatives, and the file with other thread counts, in turns with the file."""
    with scratch_folder() as scratch:
        built = build_alternatives(profiled)
        runnable = _write_alternatives(built, file, scratch, profiled.feed)
        runners: dict[str, Factory] = {name: onnx_runner(file, profiled.feed, threads) for name in (FILE, REPEAT)}
        runners |= {name: onnx_runner(path, profiled.feed, threads) for name, (_, path) in runnable.items()}
        for count in thread_counts(usable_cores()):
            if count != threads:
                runners[_threads(count)] = onnx_runner(file, profiled.feed, count)
        # 1 %: half of the least gain that is reported.
        measured_timings = compare(
            runners, baseline=FILE, threads=threads, precision=0.01, max_seconds=seconds, seed=seed
        )
    timings = {timing.name: timing for timing in measured_timings}
    rewrites = {name: rewrite for name, (rewrite, _) in runnable.items()}
    failed = tuple(sorted(built.keys() - runnable.keys()))
    return replace(profiled, timings=timings, rewrites=rewrites, failed=failed, noise=abs(1 - timings[REPEAT].ratio))


def _write_alternatives(
    rewrites: Mapping[str, Rewrite], file: Path, folder: Path, feed: Feed
) -> dict[str, tuple[Rewrite, Path]]:
    """Write the alternatives to files, except those that fail to run or differ from the file though exact."""
    runnable = {}
    for number, (name, rewrite) in enumerate(rewrites.items()):
        path = folder / f"{number}.onnx"
        path.write_bytes(rewrite.model.SerializeToString())
        try:
            # Without quantization answers differ by design; `same_outputs` is called for
            # both, because it also runs them.
            if same_outputs(file, path, feed) or not rewrite.exact:
                runnable[name] = rewrite, path
        except ModelFileError:
            continue
    return runnable


def _fixed_axes(feed: Feed, batch: int, size: int | None) -> list[str]:
    """Note the requested batch and side where the file fixes another one."""
    notes = fixed_batches({FILE: batch_of(feed)}, batch)
    if size is not None and not any(size in value.shape[1:] for value in feed.values()):
        notes.append(f"{FILE}: fed no side of {size}: its sides are fixed")
    return notes


def _report(profiled: ProfiledModel, findings: Sequence[Finding], threads: int, top: int) -> Report:
    weights = _weights(profiled)
    tables = [Table(title="Findings", rows=tuple(finding.row() for finding in findings))] if findings else []
    tables += [_operators(profiled, weights), _slowest(profiled, weights, top), _threads_table(profiled)]
    return Report(
        rows=tuple(_rows(profiled, findings, weights)),
        tables=tuple(tables),
        notes=tuple(_notes(profiled, findings, threads)),
    )


def _rows(profiled: ProfiledModel, findings: Sequence[Finding], weights: Sequence[Shape]) -> list[Measurement]:
    of, base = "the kernels' time", profiled.timings[FILE]
    work = sum(macs(kernel, weight) for kernel, weight in zip(profiled.kernels, weights, strict=True))
    shares = {"compute": COMPUTE, "convert": CONVERT, "move": MOVE}
    return [
        Measurement(name="p50", value=base.p50, unit="ms", n=base.n),
        Measurement(name="kernels", value=profiled.total, unit="ms", n=len(profiled.kernels)),
        Measurement(name="macs", value=work / 1e6, unit="M"),
        *(
            Measurement(name=f"share/{name}", value=profiled.share(lambda k, _, ops=ops: k.op in ops), unit="%", of=of)  # type: ignore[misc]
            for name, ops in shares.items()
        ),
        Measurement(name="findings", value=len(findings)),
    ]


def _weights(profiled: ProfiledModel) -> list[Shape]:
    """By kernel, the shape of its layer's weight in the file, or `()`."""
    by_name = {node.name: node for node in profiled.graph.nodes}
    return [_weight(profiled.graph, by_name[name]) if name in by_name else () for name in profiled.nodes]


def _weight(graph: Graph, node: Any) -> Shape:
    place = 3 if node.op_type in qoperators.LAYERS else 1
    if len(node.input) <= place:
        return ()
    maker = graph.producers.get(node.input[place])
    name = maker.input[0] if maker is not None and maker.input else node.input[place]
    return tuple(graph.constants[name].shape) if name in graph.constants else ()


def _operators(profiled: ProfiledModel, weights: Sequence[Shape]) -> Table:
    by_operator: dict[str, list[float]] = {}
    for kernel, weight in zip(profiled.kernels, weights, strict=True):
        row = by_operator.setdefault(kernel.op, [0, 0.0, 0.0, 0.0])
        for place, value in enumerate((1, kernel.ms, macs(kernel, weight), bytes_moved(kernel, weight))):
            row[place] += value
    rows = [
        {"operator": op, "kernels": int(count), **_figures(ms, ms / profiled.total, work, size)}
        for op, (count, ms, work, size) in sorted(by_operator.items(), key=lambda pair: -pair[1][1])
    ]
    return Table(title="Time by operator, as ONNX Runtime runs them", rows=tuple(rows))


def _slowest(profiled: ProfiledModel, weights: Sequence[Shape], top: int) -> Table:
    every = sorted(zip(profiled.kernels, profiled.nodes, weights, strict=True), key=lambda row: -row[0].ms)[:top]
    rows = [
        {
            "node": name,
            "operator": kernel.op,
            "output": "x".join(map(str, kernel.outputs[0])) if kernel.outputs else "",
            **_figures(kernel.ms, kernel.ms / profiled.total, macs(kernel, weight), bytes_moved(kernel, weight)),
        }
        for kernel, name, weight in every
    ]
    return Table(title=f"The {len(rows)} slowest kernels", rows=tuple(rows))


def _figures(ms: float, share: float, work: float, size: float) -> dict[str, Any]:
    """Time, work and their ratios: multiply-adds per byte tell whether memory or arithmetic is the limit."""
    return {
        "ms": round(ms, 4),
        "time %": round(100 * share, 1),
        "MMACs": work / 1e6 if work else None,
        "MB moved": size / 1e6,
        "MACs/byte": work / size if work and size else None,
        "GMAC/s": work / ms / 1e6 if work and ms else None,
    }


def _threads_table(profiled: ProfiledModel) -> Table:
    rows = [
        {"threads": timing.name.split()[0], "p50 ms": timing.p50, **_span(timing)}
        for name, timing in profiled.timings.items()
        if name.endswith((" thread", " threads"))
    ]
    base = profiled.timings[FILE]
    rows.append({"threads": str(base.threads), "p50 ms": base.p50, **_span(base)})
    return Table(title="Threads", rows=tuple(sorted(rows, key=lambda row: int(row["threads"]))))


def _span(timing: Timing) -> dict[str, str]:
    return {"p50 ratio": f"{timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]"}


def _notes(profiled: ProfiledModel, findings: Sequence[Finding], threads: int) -> list[str]:
    repeat, base = profiled.timings[REPEAT], profiled.timings[FILE]
    shapes = ", ".join("x".join(map(str, value.shape)) or "1" for value in profiled.feed.values())
    notes = [] if findings else [NO_FINDINGS]
    notes += [
        f"input {shapes}, batch {batch_of(profiled.feed)}, {threads} thread{'s' * (threads > 1)}; "
        f"p50 in {base.rounds} rounds of alternating blocks; "
        "gains are reductions of p50 with their 95 % interval and do not add up",
        f"noise: the file against itself has a p50 ratio of {repeat.ratio:.3f} "
        f"[{repeat.ratio_low:.3f}, {repeat.ratio_high:.3f}]",
    ]
    for text, open_end in (("tried, not faster", False), ("undecided: needs a quieter machine or more time", True)):
        slow = [
            name
            for name in profiled.rewrites
            if not profiled.faster_timing(name) and _is_undecided(profiled, name) == open_end
        ]
        if slow:
            notes.append(f"{text}: {', '.join(_ratio_text(profiled, name) for name in slow)}")
    if profiled.failed:
        notes.append(f"built, but failed or differed in outputs from the file: {', '.join(profiled.failed)}")
    fastest = _best_thread_count(profiled)
    return notes + ([fastest] if fastest else []) + doubts()


def _is_undecided(profiled: ProfiledModel, name: str) -> bool:
    """Whether the gain of an alternative may still reach `MIN_GAIN`."""
    timing = profiled.timings[name]
    return timing.rounds < MIN_ROUNDS or 100 * (1 - timing.ratio_low) >= MIN_GAIN


def _ratio_text(profiled: ProfiledModel, name: str) -> str:
    timing = profiled.timings[name]
    return f"{name} {timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]"


def _best_thread_count(profiled: ProfiledModel) -> str:
    candidates = {name: timing for name, timing in profiled.timings.items() if name.endswith((" thread", " threads"))}
    faster = [timing for name, timing in candidates.items() if profiled.faster_timing(name)]
    best = min(faster, key=lambda timing: timing.ratio, default=None)
    return f"threads: with {best.name}, p50 is {best.ratio:.3f} of the value above" if best else ""


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
