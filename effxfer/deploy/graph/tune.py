"""Recover speed that ONNX Runtime leaves: rewrite an exported file, and keep that only if it is measurably faster.

Tried are graphs that compute the same (folded, fused, wider, without dead channels), all of them together, and the file
as ONNX Runtime's own optimizer leaves it, saved at each of its levels. That last kind may hold kernels and layouts of
one CPU: it says so in its metadata.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.machine import facts
from effxfer.benchmark.protocol import latency
from effxfer.deploy.export.external_data import write_sealed
from effxfer.deploy.export.onnx import load, read_metadata, strip, write_metadata
from effxfer.deploy.export.opset import left_behind
from effxfer.deploy.export.parity import onnx_logits, open_model
from effxfer.deploy.graph.fold_affine import fold
from effxfer.deploy.graph.fuse_activations import fuse
from effxfer.deploy.graph.graph import Graph, Rewrite, named
from effxfer.deploy.graph.resize_channels import drop_dead, infer, widen
from effxfer.deploy.int8.static import Feeds
from effxfer.deploy.settings import OPSET
from effxfer.errors import ModelFileError
from effxfer.process.scratch import scratch_folder
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.model_file.seal import unsealed
from effxfer.runtime.session import FATAL, open_session, reason, session_options

FILE = "as exported"
LEVELS = {
    "offline basic": "ORT_ENABLE_BASIC",
    "offline extended": "ORT_ENABLE_EXTENDED",
    "offline all": "ORT_ENABLE_ALL",
}
LEAST = 0.01
TUNED, ONLY = "tuned", "tuned-for"
Compare = Callable[..., Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way to make a file faster.

    Attributes:
        name: What was done.
        file: The candidate.
        cpu: The CPU whose kernels it may hold; empty if it is as portable as what it came from.
        difference: Largest difference of a logit, as a share of the largest logit (of 1, where all are smaller).
        timing: As `latency.compare` gives it; None if it was not timed.
        verdict: Why it was kept or not.
    """

    name: str
    file: Path
    cpu: str = ""
    difference: float | None = None
    timing: Any = None
    verdict: str = ""

    def row(self) -> dict[str, Any]:
        """Give a row of the report's table."""
        timed = {name: getattr(self.timing, name, None) for name in ("p50", "ratio", "ratio_low", "ratio_high")}
        load = getattr(self.timing, "load_ms", None)
        return {"attempt": self.name, "difference": self.difference, **timed, "load ms": load, "verdict": self.verdict}


def tune(
    file: Path,
    *,
    pixels: NDArray[np.uint8],
    tolerance: float = 1e-3,
    threads: int = 1,
    seconds: float = 20.0,
    seed: int = 0,
    compare: Compare | None = None,
) -> Report:
    """Try to make an exported file faster, and replace it if that worked.

    Args:
        file: What `export_onnx` or `quantize` wrote.
        pixels: uint8 `(N, S, S, 3)`, the whole validation split: logits must stay the same on it.
        tolerance: Largest difference of a logit, as a share of the largest logit (of 1, where all are smaller).
        threads: Of ONNX Runtime; 0 is one per core.
        seconds: Time for all attempts together.
        seed: Of the order of timing.
        compare: Times runners; None is `effxfer.benchmark.protocol.latency.compare`.

    Returns:
        A table of what was tried. With what was kept: `p50-ratio/tuned`, and a note that names it, and the CPU if it
        may not run elsewhere. The file is replaced only by one whose p50 is lower by 1 %, by more than the file's own
        difference to itself, in at least five rounds with the 95 % interval below 1; its metadata then say `tuned` and,
        for one CPU, `tuned-for`.

    Raises:
        ModelFileError: If the file is absent or was not written by effxfer.
    """
    about = read_metadata(file)
    with scratch_folder() as scratch:
        attempts = [_judged(one, file, pixels, tolerance, threads) for one in _attempts(file, scratch, pixels)]
        again, attempts = _timed(file, attempts, _feed(file, pixels), threads, seconds, seed, compare)
        kept, attempts = _choose(attempts, again)
        if kept is not None:
            model = load(kept.file)
            strip(model)
            extra = {**about.extra, TUNED: kept.name, **({ONLY: kept.cpu} if kept.cpu else {})}
            write_metadata(model, replace(about, extra=extra))
            write_sealed(file, model.SerializeToString())
    return _report(attempts, kept, file)


def _feed(file: Path, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    model = open_model(file, 1)
    feeds = Feeds(name=model.input_name, pixels=pixels, preprocess=model.preprocess)
    return feeds.feed(0, 1)


def _attempts(file: Path, folder: Path, pixels: NDArray[np.uint8]) -> list[Attempt]:
    """Write all candidates; those that would not differ from the file are left out."""
    graph, feed = Graph(named(load(file))), _feed(file, pixels)
    about = {p.key: p.value for p in graph.model.metadata_props}
    made = [
        Attempt(name=name, file=_written(rewrite.model, folder / f"{name}.onnx", about))
        for name, rewrite in rewrites(graph, feed).items()
    ]
    flags = ", ".join(facts.facts()["flags"])
    cpu = f"{facts.facts()['cpu']} ({flags}), onnxruntime {facts.version('onnxruntime')}"
    for name, level in LEVELS.items():
        made.append(_offline(file, folder / f"{name}.onnx", name, level, cpu))
    return made


def rewrites(graph: Graph, feed: Mapping[str, NDArray[Any]]) -> dict[str, Rewrite]:
    """Give graphs that compute the same, by what was done, and under `together` all of it.

    What is of an older operator set than the usual stays in it.
    """
    newest = graph.opset if graph.opset < OPSET else None
    steps: dict[str, Callable[[Graph], Rewrite | None]] = {
        "dropped": lambda one: drop_dead(one, infer(one, feed)),
        "folded": fold,
        "fused": lambda one: fuse(one, newest),
        "widened": lambda one: widen(one, infer(one, feed)),
    }
    found = {name: made for name, step in steps.items() if (made := step(graph)) is not None}
    if len(found) > 1:
        whole, nodes = graph, list[str]()
        for step in steps.values():
            if made := step(whole):
                whole, nodes = Graph(named(made.model)), [*nodes, *made.nodes]
        found["together"] = Rewrite(model=whole.model, nodes=tuple(nodes))
    return found


def _written(model: Any, file: Path, about: Mapping[str, str]) -> Path:
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(about))
    file.write_bytes(model.SerializeToString())
    return file


def _offline(file: Path, out: Path, name: str, level: str, cpu: str) -> Attempt:
    """Let ONNX Runtime save the graph that it would run."""
    options = session_options(threads=1, level=level, severity=FATAL, optimized_model_filepath=str(out))
    try:
        open_session(unsealed(file.read_bytes()), options)
    except Exception as error:  # ONNX Runtime's exceptions have no public home
        return Attempt(name=name, file=out, verdict=f"failed: {reason(error)}")
    if not out.is_file():
        return Attempt(name=name, file=out, verdict="failed: ONNX Runtime wrote nothing")
    saved = load(out)
    if gone := left_behind(saved, Graph(load(file)).opset):
        return Attempt(name=name, file=out, verdict=f"rejected: {gone}")
    foreign = any(node.domain not in {"", "ai.onnx"} for node in saved.graph.node)
    return Attempt(name=name, file=out, cpu=cpu if foreign else "")


def _judged(one: Attempt, file: Path, pixels: NDArray[np.uint8], tolerance: float, threads: int) -> Attempt:
    """Compare logits on the whole split with those of the file."""
    if one.verdict:
        return one
    expected = onnx_logits(file, pixels, threads=threads)
    try:
        got = onnx_logits(one.file, pixels, threads=threads)
    except ModelFileError as error:
        return replace(one, verdict=f"failed: {error.problem}")
    off = float(np.abs(expected - got).max() / max(1.0, float(np.abs(expected).max())))
    wrong = not off <= tolerance or bool((expected.argmax(1) != got.argmax(1)).any())
    return replace(one, difference=off, verdict="rejected: answers otherwise" if wrong else "")


def _timed(
    file: Path, attempts: list[Attempt], feed: Mapping[str, NDArray[Any]], threads: int, seconds: float, seed: int,
    compare: Compare | None,
) -> tuple[float, list[Attempt]]:  # fmt: skip
    """Time what answers the same in turns with the file; give by how much the file differs from itself, too."""
    racing = {one.name: one.file for one in attempts if not one.verdict}
    files = {FILE: file, f"{FILE}, again": file, **racing}
    runners = {name: latency.onnx_runner(path, feed, threads) for name, path in files.items()}
    found = (compare or latency.compare)(
        runners, baseline=FILE, threads=threads, precision=0.01, max_seconds=seconds, seed=seed
    )
    timings = {timing.name: timing for timing in found}
    noise = abs(1 - timings[f"{FILE}, again"].ratio)
    base = Attempt(name=FILE, file=file, difference=0.0, timing=timings[FILE])
    return noise, [base, *(replace(one, timing=timings.get(one.name)) for one in attempts)]


def _choose(attempts: list[Attempt], noise: float) -> tuple[Attempt | None, list[Attempt]]:
    """Keep the fastest that is faster beyond doubt; a portable one before one for this CPU within the noise."""
    sure = [one for one in attempts if one.name != FILE and one.timing and _faster(one.timing, noise)]
    best = min((one.timing.ratio for one in sure), default=0.0)
    near = [one for one in sure if one.timing.ratio <= best + max(LEAST, noise)]
    kept = min(near, key=lambda one: (bool(one.cpu), one.timing.ratio), default=None)
    told = []
    for one in attempts:
        faster = "faster, too" if one in sure else "not faster"
        verdict = one.verdict or ("" if one.name == FILE else "kept" if one is kept else faster)
        told.append(replace(one, verdict=verdict))
    return kept, told


def _faster(timing: Any, noise: float) -> bool:
    enough = timing.rounds >= latency.MIN_ROUNDS and timing.ratio_high < 1
    return bool(enough and 1 - timing.ratio > max(LEAST, noise))


def _report(attempts: list[Attempt], kept: Attempt | None, file: Path) -> Report:
    table = Table(title=f"Attempts to make {file.name} faster", rows=tuple(one.row() for one in attempts))
    if kept is None:
        return Report(notes=(f"{file.name} was left as it is: nothing that was tried is faster",), tables=(table,))
    timing = kept.timing
    row = Measurement(
        name="p50-ratio/tuned", value=timing.ratio, unit="x", low=timing.ratio_low, high=timing.ratio_high, n=timing.n
    )
    only = f"; it may hold kernels of this CPU only: {kept.cpu}" if kept.cpu else ""
    return Report(rows=(row,), notes=(f"{file.name}: kept {kept.name}{only}",), tables=(table,))
