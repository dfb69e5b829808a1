"""Look at an exported model and say why it is not faster."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.measure.op_costs import COMPUTE, CONVERT, MOVE, macs, moved
from effxfer.benchmark.measure.profile import Shape, profile
from effxfer.benchmark.protocol.latency import MIN_ROUNDS, Factory, Timing, compare
from effxfer.benchmark.protocol.runners import batch_of, feed_for, onnx_runner, open_session
from effxfer.benchmark.report import doubts, fixed_batches
from effxfer.benchmark.untrusted.sandbox import inside
from effxfer.benchmark.untrusted.vet import is_foreign, unvouched
from effxfer.deploy.diagnose.findings import FINDINGS, MANY_ZEROS, MUCH_MOVING, Finding
from effxfer.deploy.diagnose.measurements import LEAST, Examined, alternatives
from effxfer.deploy.graph import qoperators
from effxfer.deploy.graph.graph import Graph, Rewrite, open_graph
from effxfer.errors import ModelFileError
from effxfer.process.scratch import scratch_folder
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.threads import usable_cores

PLAIN = "effxfer.deploy.diagnose.model_report:plain_examination"
FILE, AGAIN = "the file", "the file again"
NOTHING = (
    f"nothing found: no other graph was seen to be faster by {LEAST:g} % or more, no layer has {MANY_ZEROS:g} % zeros, "
    f"and data movement takes less than {MUCH_MOVING:g} % of the time"
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
    """Profile a model, build what it could be instead, time that in turns with it, and say what was found.

    Args:
        file: An ONNX file from anywhere.
        threads: Of ONNX Runtime.
        batch: Images per call.
        size: Value of free axes other than the batch; None for what the file states, see `feed_for`.
        max_seconds: Time for all comparisons together; profiling comes on top.
        top: How many kernels to list.
        seed: Of the input and of the order of comparisons.

    Returns:
        A report, and the findings in it, the largest expected gain first.

    Raises:
        ModelFileError: If the file is absent, broken, or cannot be run.
    """
    how: dict[str, Any] = {
        "threads": threads,
        "batch": batch,
        "size": size,
        "max_seconds": max_seconds,
        "top": top,
        "seed": seed,
    }
    if not is_foreign(file):
        return _examined(file, **how)
    asked = {"file": str(file), **how}
    plain, rows = inside(PLAIN, [file], asked, seconds=4 * max_seconds, size=size)
    return Report.from_json(plain), [Finding(**{**row, "where": tuple(row["where"])}) for row in rows]


def plain_examination(file: str, **how: Any) -> list[Any]:
    """Examine a file in this process; give report and findings as plain values."""
    report, found = _examined(Path(file), **how)
    return [report.to_json(), [asdict(finding) for finding in found]]


def _examined(
    file: Path, *, threads: int, batch: int, size: int | None, max_seconds: float, top: int, seed: int
) -> tuple[Report, list[Finding]]:
    graph = open_graph(file)
    feed = feed_for(file, batch=batch, size=size, seed=seed)
    known = Examined(graph, feed, profile(file, feed, threads=threads), {}, {})
    known = _compared(known, file, threads, max_seconds, seed)
    found = sorted((one for find in FINDINGS for one in find(known)), key=lambda one: -one.gain)
    return _report(known, found, threads, top) + Report(notes=(*_unlike(feed, batch, size), *unvouched([file]))), found


def same_outputs(one: Path, other: Path, feed: Feed, tolerance: float = 1e-3) -> bool:
    """Whether two models answer alike, up to `tolerance` of the largest number (of 1, where all are smaller)."""
    answers = [open_session(file, 1).run(None, dict(feed)) for file in (one, other)]
    for a, b in zip(*answers, strict=True):
        scale = max(1.0, float(np.abs(a).max(initial=0)))
        if a.shape != b.shape or not np.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True):
            return False
    return True


def thread_counts(usable: int) -> list[int]:
    """Powers of two up to the usable threads, and these.

    >>> thread_counts(6)
    [1, 2, 4, 6]
    """
    return sorted({usable, *(2**i for i in range(usable.bit_length()) if 2**i <= usable)})


def _compared(known: Examined, file: Path, threads: int, seconds: float, seed: int) -> Examined:
    """Time all alternatives, and the file with other numbers of threads, in turns with the file."""
    with scratch_folder() as scratch:
        built = alternatives(known)
        made = _written(built, file, scratch, known.feed)
        runners: dict[str, Factory] = {name: onnx_runner(file, known.feed, threads) for name in (FILE, AGAIN)}
        runners |= {name: onnx_runner(path, known.feed, threads) for name, (_, path) in made.items()}
        for count in thread_counts(usable_cores()):
            if count != threads:
                runners[_threads(count)] = onnx_runner(file, known.feed, count)
        found = compare(runners, baseline=FILE, threads=threads, precision=0.01, max_seconds=seconds, seed=seed)
    timings = {timing.name: timing for timing in found}
    rewrites = {name: rewrite for name, (rewrite, _) in made.items()}
    failed = tuple(sorted(built.keys() - made.keys()))
    return replace(known, timings=timings, rewrites=rewrites, failed=failed, noise=abs(1 - timings[AGAIN].ratio))


def _written(rewrites: Mapping[str, Rewrite], file: Path, folder: Path, feed: Feed) -> dict[str, tuple[Rewrite, Path]]:
    """Write alternatives out; one that cannot be run, or should answer like the file and does not, is left out."""
    kept = {}
    for number, (name, rewrite) in enumerate(rewrites.items()):
        path = folder / f"{number}.onnx"
        path.write_bytes(rewrite.model.SerializeToString())
        try:
            if same_outputs(file, path, feed) or not rewrite.exact:
                kept[name] = rewrite, path
        except ModelFileError:
            continue
    return kept


def _unlike(feed: Feed, batch: int, size: int | None) -> list[str]:
    """Say what of the batch and the side that were asked for the file does not take."""
    notes = fixed_batches({FILE: batch_of(feed)}, batch)
    if size is not None and not any(size in value.shape[1:] for value in feed.values()):
        notes.append(f"{FILE}: fed no side of {size}: its sides are fixed")
    return notes


def _report(known: Examined, found: Sequence[Finding], threads: int, top: int) -> Report:
    weights = _weights(known)
    tables = [Table(title="Findings", rows=tuple(one.row() for one in found))] if found else []
    tables += [_operators(known, weights), _slowest(known, weights, top), _threads_table(known)]
    return Report(
        rows=tuple(_rows(known, found, weights)),
        tables=tuple(tables),
        notes=tuple(_notes(known, found, threads)),
    )


def _rows(known: Examined, found: Sequence[Finding], weights: Sequence[Shape]) -> list[Measurement]:
    of, base = "the kernels' time", known.timings[FILE]
    work = sum(macs(kernel, weight) for kernel, weight in zip(known.kernels, weights, strict=True))
    shares = {"compute": COMPUTE, "convert": CONVERT, "move": MOVE}
    return [
        Measurement(name="p50", value=base.p50, unit="ms", n=base.n),
        Measurement(name="kernels", value=known.total, unit="ms", n=len(known.kernels)),
        Measurement(name="macs", value=work / 1e6, unit="M"),
        *(
            Measurement(name=f"share/{name}", value=known.share(lambda k, _, ops=ops: k.op in ops), unit="%", of=of)  # type: ignore[misc]
            for name, ops in shares.items()
        ),
        Measurement(name="findings", value=len(found)),
    ]


def _weights(known: Examined) -> list[Shape]:
    """By kernel, the shape of its layer's weight in the file, or nothing."""
    by_name = {node.name: node for node in known.graph.nodes}
    return [_weight(known.graph, by_name[name]) if name in by_name else () for name in known.nodes]


def _weight(graph: Graph, node: Any) -> Shape:
    place = 3 if node.op_type in qoperators.LAYERS else 1
    if len(node.input) <= place:
        return ()
    maker = graph.producers.get(node.input[place])
    name = maker.input[0] if maker is not None and maker.input else node.input[place]
    return tuple(graph.constants[name].shape) if name in graph.constants else ()


def _operators(known: Examined, weights: Sequence[Shape]) -> Table:
    by: dict[str, list[float]] = {}
    for kernel, weight in zip(known.kernels, weights, strict=True):
        row = by.setdefault(kernel.op, [0, 0.0, 0.0, 0.0])
        for place, value in enumerate((1, kernel.ms, macs(kernel, weight), moved(kernel, weight))):
            row[place] += value
    rows = [
        {"operator": op, "kernels": int(count), **_figures(ms, ms / known.total, work, size)}
        for op, (count, ms, work, size) in sorted(by.items(), key=lambda pair: -pair[1][1])
    ]
    return Table(title="Time by operator, as ONNX Runtime runs them", rows=tuple(rows))


def _slowest(known: Examined, weights: Sequence[Shape], top: int) -> Table:
    every = sorted(zip(known.kernels, known.nodes, weights, strict=True), key=lambda one: -one[0].ms)[:top]
    rows = [
        {
            "node": name,
            "operator": kernel.op,
            "output": "x".join(map(str, kernel.outputs[0])) if kernel.outputs else "",
            **_figures(kernel.ms, kernel.ms / known.total, macs(kernel, weight), moved(kernel, weight)),
        }
        for kernel, name, weight in every
    ]
    return Table(title=f"The {len(rows)} slowest kernels", rows=tuple(rows))


def _figures(ms: float, share: float, work: float, size: float) -> dict[str, Any]:
    """Time, work and how well they fit: multiply-adds per byte tell whether memory or arithmetic is the limit."""
    return {
        "ms": round(ms, 4),
        "time %": round(100 * share, 1),
        "MMACs": work / 1e6 if work else None,
        "MB moved": size / 1e6,
        "MACs/byte": work / size if work and size else None,
        "GMAC/s": work / ms / 1e6 if work and ms else None,
    }


def _threads_table(known: Examined) -> Table:
    rows = [
        {"threads": timing.name.split()[0], "p50 ms": timing.p50, **_span(timing)}
        for name, timing in known.timings.items()
        if name.endswith((" thread", " threads"))
    ]
    base = known.timings[FILE]
    rows.append({"threads": str(base.threads), "p50 ms": base.p50, **_span(base)})
    return Table(title="Threads", rows=tuple(sorted(rows, key=lambda row: int(row["threads"]))))


def _span(timing: Timing) -> dict[str, str]:
    return {"p50 ratio": f"{timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]"}


def _notes(known: Examined, found: Sequence[Finding], threads: int) -> list[str]:
    again, base = known.timings[AGAIN], known.timings[FILE]
    shapes = ", ".join("x".join(map(str, value.shape)) or "1" for value in known.feed.values())
    notes = [] if found else [NOTHING]
    notes += [
        f"input {shapes}, batch {batch_of(known.feed)}, {threads} thread{'s' * (threads > 1)}; "
        f"p50 in {base.rounds} rounds of alternating blocks; "
        "gains are reductions of p50 with their 95 % interval and do not add up",
        f"noise: the file against itself gave a p50 ratio of {again.ratio:.3f} "
        f"[{again.ratio_low:.3f}, {again.ratio_high:.3f}]",
    ]
    for text, open_end in (("tried, not faster", False), ("undecided, needs a quieter machine or more time", True)):
        slow = [name for name in known.rewrites if not known.faster(name) and _undecided(known, name) == open_end]
        if slow:
            notes.append(f"{text}: {', '.join(_tried(known, name) for name in slow)}")
    if known.failed:
        notes.append(f"built, but did not answer like the file: {', '.join(known.failed)}")
    quick = _quickest(known)
    return notes + ([quick] if quick else []) + doubts()


def _undecided(known: Examined, name: str) -> bool:
    """Whether an alternative may be faster by as much as would count."""
    timing = known.timings[name]
    return timing.rounds < MIN_ROUNDS or 100 * (1 - timing.ratio_low) >= LEAST


def _tried(known: Examined, name: str) -> str:
    timing = known.timings[name]
    return f"{name} {timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]"


def _quickest(known: Examined) -> str:
    others = [t for name, t in known.timings.items() if name.endswith((" thread", " threads")) and known.faster(name)]
    best = min(others, key=lambda timing: timing.ratio, default=None)
    return f"threads: with {best.name} p50 is {best.ratio:.3f} of what is shown here" if best else ""


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
