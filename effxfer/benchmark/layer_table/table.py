"""What single layers cost in ONNX Runtime on this machine, measured once and remembered.

A layer is timed as a graph of one node, by ONNX Runtime's own profile: only the kernel counts, not the session around
it nor the reordering of its input and output, which neighbours in a network share. Widths between the measured ones
are interpolated, as in HALP (Shen et al., 2022, https://arxiv.org/abs/2110.10811), whose latency table this is.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effxfer import progress
from effxfer.benchmark.layer_table.interpolation import (
    CLASSES,
    UNIT,
    Point,
    axis,
    bilinear,
    class_of,
    fast_step,
    stairs,
)
from effxfer.benchmark.machine import facts
from effxfer.data.sources.file_hashes import default_cache, warn_unwritable
from effxfer.errors import ResourceError
from effxfer.files import digest, read_sealed, write_sealed
from effxfer.net.layers import Layer, Site
from effxfer.process.scratch import scratch_folder
from effxfer.runtime.session import open_session, session_options

FORMAT = 2
WARMUP = 3
RUNS = (12, 40)
SECONDS = 0.02
TYPICAL = 64
OPERATORS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
Measure = Callable[[Site, int, int, int], float]
Known = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class LayerCosts:
    """A table of measured layers.

    Attributes:
        axes: By site, the measured widths of inputs and outputs, within one group.
        points: By site, milliseconds at measured points.
        stairs: By kind of layer, the factor that widths off the multiples of 8 cost, see `grid.stairs`.
    """

    axes: Mapping[Site, tuple[list[int], list[int]]]
    points: Mapping[Site, Mapping[Point, float]]
    stairs: Mapping[str, Mapping[int, float]]

    @property
    def step(self) -> int:
        """Widths at multiples of this are on the runtime's fast path."""
        return fast_step(list(self.stairs.values()))

    def ms(self, site: Site, inputs: int, outputs: int) -> float:
        """Give a layer's time in milliseconds; 0 where it has no channels left.

        Raises:
            KeyError: If the layer is of a shape that was not measured, or wider.
        """
        if not inputs or not outputs:
            return 0.0
        x, y = within(site, inputs, outputs)
        xs, ys = self.axes[site]
        factors = self.stairs.get(site.kind, {})
        off = [factors.get(class_of(width), 1.0) for width, known in ((x, xs), (y, ys)) if width not in known]
        return bilinear(self.points[site], xs, ys, x, y) * max(off, default=1.0)


def measure_costs(
    layers: Iterable[Layer], *, threads: int = 1, folder: Path | None = None, measure: Measure | None = None
) -> LayerCosts:
    """Measure what the layers of a network cost, at their widths and below.

    Args:
        layers: Of the widest network that will be asked about.
        threads: Of ONNX Runtime.
        folder: Where measurements are kept; None is the cache folder. What is there is not measured again.
        measure: Gives milliseconds for (site, inputs, outputs, threads); None is `time_layer`.
    """
    layers = list(layers)
    file = cache_file(folder or default_cache() / "latency", threads)
    clock = _Clock(file, threads, measure or time_layer)
    axes, wanted = plan(layers)
    typical = _typical(layers)
    todo = [(site, x, y) for site, points in wanted.items() for x, y in sorted(points)]
    todo += [(site, width, width) for site in typical for width in _staircase()]
    with progress.bar("measure layers", len(todo)) as advance:
        for number, (site, x, y) in enumerate(todo):
            clock.time(site, x, y)
            advance(1, str(site))
            if number % 50 == 49:
                clock.save()
    clock.save()
    points = {site: {(x, y): clock.time(site, x, y) for x, y in found} for site, found in wanted.items()}
    times = {site.kind: {width: clock.time(site, width, width) for width in _staircase()} for site in typical}
    return LayerCosts(axes=axes, points=points, stairs={kind: stairs(t, TYPICAL) for kind, t in times.items()})


def plan(
    layers: Iterable[Layer],
) -> tuple[dict[Site, tuple[list[int], list[int]]], dict[Site, set[Point]]]:
    """Choose what to measure: by site the two axes, and those of their points that a layer's smaller versions need."""
    used: dict[Site, list[Point]] = {}
    for layer in layers:
        used.setdefault(layer.site, []).append(within(layer.site, layer.inputs, layer.outputs))
    axes, points = {}, {}
    for site, pairs in used.items():
        narrow = site.kind == "conv" and site.groups > 1
        xs, ys = axis([x for x, _ in pairs], narrow=narrow), axis([y for _, y in pairs], narrow=narrow)
        if site.kind == "depthwise":
            ys, points[site] = [1], {(x, 1) for x in xs}
        else:
            points[site] = {(x, y) for a, b in pairs for x in _upto(xs, a) for y in _upto(ys, b)}
        axes[site] = (xs, ys)
    return axes, points


def within(site: Site, inputs: int, outputs: int) -> Point:
    """Give the widths that decide the time: those of one group; for a depthwise layer its channels, and 1."""
    if site.kind == "depthwise":
        return inputs, 1
    return -(-inputs // site.groups), -(-outputs // site.groups)


def cache_file(folder: Path, threads: int) -> Path:
    """Name the file that holds what was measured with this CPU, this ONNX Runtime and so many threads."""
    return folder / f"layers-{digest(about(threads))}.json"


def about(threads: int) -> dict[str, Any]:
    """What measurements are valid for."""
    known = facts.facts()
    runtime = facts.version("onnxruntime")
    return {"format": FORMAT, "cpu": known["cpu"], "flags": known["flags"], "onnxruntime": runtime, "threads": threads}


def time_layer(site: Site, inputs: int, outputs: int, threads: int = 1) -> float:
    """Time one layer in ONNX Runtime, in milliseconds.

    The mean of the middle half of the runs is taken, because the profile counts whole microseconds.
    """
    from effxfer.benchmark.layer_table.single_layer import node_model

    model, shape = node_model(site, inputs, outputs)
    options = session_options(threads=threads, inter_op_num_threads=1, enable_profiling=True)
    with scratch_folder() as scratch:
        options.profile_file_prefix = str(scratch / "profile")
        session = open_session(model, options)
        _repeat(session, {"x": np.full(shape, 0.5, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    return kernel_ms(events)


def kernel_ms(events: Iterable[Mapping[str, Any]]) -> float:
    """Read the time of the one layer out of a profile: its kernel, by whatever name the optimizer gave it.

    Raises:
        ResourceError: If the profile has no such kernel.
    """
    kernels = [
        float(event["dur"])
        for event in events
        if event.get("cat") == "Node"
        and str(event["name"]).endswith("_kernel_time")
        and event.get("args", {}).get("op_name") in OPERATORS
    ]
    if len(kernels) <= WARMUP:
        raise ResourceError("ONNX Runtime's profile does not show the layer", "see `effxfer doctor`")
    ordered = sorted(kernels[WARMUP:])
    middle = ordered[len(ordered) // 4 : len(ordered) - len(ordered) // 4]
    return sum(middle) / len(middle) / 1e3


class _Clock:
    """Measurements of this machine: asked for once, kept in a file."""

    def __init__(self, file: Path, threads: int, measure: Measure) -> None:
        self.file, self.threads, self.measure = file, threads, measure
        self.known, self.fresh = _read(file), False

    def time(self, site: Site, x: int, y: int) -> float:
        """Milliseconds of a layer whose widths within a group are `x` and `y`; of a depthwise one, `x` channels."""
        row, key = self.known.setdefault(str(site), {}), f"{x}x{y}"
        if key not in row:
            inputs, outputs = (x, x * site.groups) if site.kind == "depthwise" else (x * site.groups, y * site.groups)
            row[key], self.fresh = self.measure(site, inputs, outputs, self.threads), True
        return row[key]

    def save(self) -> None:
        """Write what is new, beside what another process may have written meanwhile; what cannot be is forgotten."""
        if self.fresh:
            others = _read(self.file)
            merged = {site: {**others.get(site, {}), **row} for site, row in self.known.items()}
            try:
                write_sealed(self.file, {"about": about(self.threads), "ms": {**others, **merged}})
            except (OSError, ResourceError) as error:
                warn_unwritable(self.file.parents[1], error)
            self.fresh = False


def _read(file: Path) -> Known:
    try:
        told = read_sealed(file)["ms"]
        return {str(site): {str(key): float(ms) for key, ms in row.items()} for site, row in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _repeat(session: Any, feed: Mapping[str, Any]) -> None:
    from time import perf_counter

    for _ in range(WARMUP - 1):
        session.run(None, feed)
    begun = perf_counter()
    session.run(None, feed)
    took = max(perf_counter() - begun, 1e-6)
    for _ in range(int(min(max(SECONDS / took, RUNS[0]), RUNS[1]))):
        session.run(None, feed)


def _typical(layers: Iterable[Layer]) -> list[Site]:
    """Of each kind whose widths may matter, the site of the layer with most multiply-adds."""
    work: dict[str, tuple[int, Site]] = {}
    for layer in layers:
        site = layer.site
        if site.kind != "linear" and site.groups == 1 and layer.inputs >= UNIT:
            size = site.out[0] * site.out[1] * site.kernel[0] * site.kernel[1] * layer.outputs
            size *= 1 if site.kind == "depthwise" else layer.inputs
            work[site.kind] = max(work.get(site.kind, (0, site)), (size, site))
    return [site for _, site in work.values()]


def _staircase() -> list[int]:
    return [TYPICAL, TYPICAL + UNIT, *(TYPICAL + r for r in CLASSES)]


def _upto(values: list[int], width: int) -> list[int]:
    """The values that interpolating up to a width takes."""
    return [v for i, v in enumerate(values) if v <= width or not i or values[i - 1] < width]
