"""Latency table of single layers in ONNX Runtime on this machine, measured once and cached.

A layer is timed as a graph of one node by ONNX Runtime's profiler. Only the kernel counts, not the session nor the
reordering of inputs and outputs, which adjacent layers of a network share. Widths between the measured ones
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
    SUBDIVISIONS,
    UNIT,
    Point,
    bilinear,
    fast_step,
    off_grid_factors,
    sample_widths,
    width_class,
)
from effxfer.benchmark.machine import facts
from effxfer.data.sources.file_hashes import default_cache, warn_unwritable
from effxfer.errors import ResourceError
from effxfer.files import digest, read_sealed, write_sealed
from effxfer.net.layers import Layer, Site
from effxfer.process.scratch import scratch_folder
from effxfer.process.timing_lock import exclusive_timing
from effxfer.runtime.session import open_session, session_options

FORMAT = 2  # part of the cache's key
WARMUP = 3  # chosen: calls that allocate and pack
# Chosen: 20 ms for each layer, but at least 12 runs, of which the middle half is averaged, and at most 40.
RUNS = (12, 40)
SECONDS = 0.02
# Chosen: a usual width, at which both an aligned and an odd number of channels fill several vectors.
PROBE_WIDTH = 64
OPERATORS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
Measure = Callable[[Site, int, int, int], float]
Milliseconds = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class LayerCosts:
    """A latency table of layers.

    Attributes:
        axes: By site, the measured widths of inputs and outputs, within one group.
        points: By site, milliseconds at measured points.
        off_grid: By kind of layer, the slow-down of widths off the multiples of 8, see
            `interpolation.off_grid_factors`.
    """

    axes: Mapping[Site, tuple[list[int], list[int]]]
    points: Mapping[Site, Mapping[Point, float]]
    off_grid: Mapping[str, Mapping[int, float]]

    @property
    def step(self) -> int:
        """The step of widths on the runtime's fast path."""
        return fast_step(list(self.off_grid.values()))

    def ms(self, site: Site, inputs: int, outputs: int) -> float:
        """Return a layer's time in milliseconds; 0 for a layer without channels.

        Raises:
            KeyError: If the layer's shape was not measured, or it is wider than measured.
        """
        if not inputs or not outputs:
            return 0.0
        x, y = group_widths(site, inputs, outputs)
        xs, ys = self.axes[site]
        factors = self.off_grid.get(site.kind, {})
        factors_of_widths = [
            factors.get(width_class(width), 1.0) for width, measured in ((x, xs), (y, ys)) if width not in measured
        ]
        return bilinear(self.points[site], xs, ys, x, y) * max(factors_of_widths, default=1.0)


def measure_costs(
    layers: Iterable[Layer], *, threads: int = 1, folder: Path | None = None, measure: Measure | None = None
) -> LayerCosts:
    """Measure the latency of a network's layers, at their widths and below.

    Args:
        layers: Layers of the widest network to look up.
        threads: Threads of ONNX Runtime.
        folder: Folder of cached measurements, which are not repeated; None is the default cache folder.
        measure: Returns milliseconds for (site, inputs, outputs, threads); None is `time_layer`.
    """
    layers = list(layers)
    file = cache_file(folder or default_cache() / "latency", threads)
    cache = _MeasurementCache(file, threads, measure or time_layer)
    axes, points_by_site = plan_points(layers)
    probed = _representative_sites(layers)
    pending = [(site, x, y) for site, points in points_by_site.items() for x, y in sorted(points)]
    pending += [(site, width, width) for site in probed for width in _probe_widths()]
    with progress.bar("measure layers", len(pending)) as advance:
        for number, (site, x, y) in enumerate(pending):
            cache.time(site, x, y)
            advance(1, str(site))
            # Seconds of work at most are lost to a kill.
            if number % 50 == 49:
                cache.save()
    cache.save()
    points = {
        site: {(x, y): cache.time(site, x, y) for x, y in site_points} for site, site_points in points_by_site.items()
    }
    times = {site.kind: {width: cache.time(site, width, width) for width in _probe_widths()} for site in probed}
    return LayerCosts(
        axes=axes, points=points, off_grid={kind: off_grid_factors(t, PROBE_WIDTH) for kind, t in times.items()}
    )


def plan_points(
    layers: Iterable[Layer],
) -> tuple[dict[Site, tuple[list[int], list[int]]], dict[Site, set[Point]]]:
    """Plan the measurements: by site the two axes, and the points that narrower versions of its layers need."""
    used: dict[Site, list[Point]] = {}
    for layer in layers:
        used.setdefault(layer.site, []).append(group_widths(layer.site, layer.inputs, layer.outputs))
    axes, points = {}, {}
    for site, pairs in used.items():
        narrow = site.kind == "conv" and site.groups > 1
        xs, ys = (
            sample_widths([x for x, _ in pairs], narrow=narrow),
            sample_widths([y for _, y in pairs], narrow=narrow),
        )
        if site.kind == "depthwise":
            ys, points[site] = [1], {(x, 1) for x in xs}
        else:
            points[site] = {(x, y) for a, b in pairs for x in _values_up_to(xs, a) for y in _values_up_to(ys, b)}
        axes[site] = (xs, ys)
    return axes, points


def group_widths(site: Site, inputs: int, outputs: int) -> Point:
    """Return the widths that determine the time: those of one group; for a depthwise layer, its channels and 1."""
    if site.kind == "depthwise":
        return inputs, 1
    return -(-inputs // site.groups), -(-outputs // site.groups)


def cache_file(folder: Path, threads: int) -> Path:
    """Return the cache file for this CPU, this version of ONNX Runtime and this number of threads."""
    return folder / f"layers-{digest(validity(threads))}.json"


def validity(threads: int) -> dict[str, Any]:
    """The CPU, runtime and threads that measurements are valid for."""
    machine = facts.facts()
    runtime = facts.version("onnxruntime")
    return {
        "format": FORMAT,
        "cpu": machine["cpu"],
        "flags": machine["flags"],
        "onnxruntime": runtime,
        "threads": threads,
    }


@exclusive_timing()
def time_layer(site: Site, inputs: int, outputs: int, threads: int = 1) -> float:
    """Time one layer in ONNX Runtime, in milliseconds.

    The mean of the middle half of the runs is taken, because the profile counts whole microseconds.
    """
    from effxfer.benchmark.layer_table.single_layer import node_model

    model, shape = node_model(site, inputs, outputs)
    # The profiler's clock, since a call's own overhead is larger than many a layer.
    options = session_options(threads=threads, inter_op_num_threads=1, enable_profiling=True)
    with scratch_folder() as scratch:
        options.profile_file_prefix = str(scratch / "profile")
        session = open_session(model, options)
        _repeat(session, {"x": np.full(shape, 0.5, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    return kernel_ms(events)


def kernel_ms(events: Iterable[Mapping[str, Any]]) -> float:
    """Read the time of the single layer from a profile, under any operator name of the optimizer.

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
    # The middle half: interruptions lie above it, and a mean of whole microseconds is finer than their median.
    middle = ordered[len(ordered) // 4 : len(ordered) - len(ordered) // 4]
    return sum(middle) / len(middle) / 1e3


class _MeasurementCache:
    """Measurements of this machine, cached in a file."""

    def __init__(self, file: Path, threads: int, measure: Measure) -> None:
        self.file, self.threads, self.measure = file, threads, measure
        self.rows, self.dirty = _read_cache(file), False

    def time(self, site: Site, x: int, y: int) -> float:
        """Return the milliseconds of a layer with `x` inputs and `y` outputs per group; `x` channels if depthwise."""
        row, key = self.rows.setdefault(str(site), {}), f"{x}x{y}"
        if key not in row:
            inputs, outputs = (x, x * site.groups) if site.kind == "depthwise" else (x * site.groups, y * site.groups)
            row[key], self.dirty = self.measure(site, inputs, outputs, self.threads), True
        return row[key]

    def save(self) -> None:
        """Write new measurements, merged with those of other processes; if that fails, continue without them."""
        if self.dirty:
            # Read again: another process may have measured other layers meanwhile.
            on_disk = _read_cache(self.file)
            merged = {site: {**on_disk.get(site, {}), **row} for site, row in self.rows.items()}
            try:
                write_sealed(self.file, {"about": validity(self.threads), "ms": {**on_disk, **merged}})
            except (OSError, ResourceError) as error:
                warn_unwritable(self.file.parents[1], error)
            self.dirty = False


def _read_cache(file: Path) -> Milliseconds:
    try:
        rows = read_sealed(file)["ms"]
        return {str(site): {str(key): float(ms) for key, ms in row.items()} for site, row in rows.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _repeat(session: Any, feed: Mapping[str, Any]) -> None:
    from time import perf_counter

    for _ in range(WARMUP - 1):
        session.run(None, feed)
    begun = perf_counter()
    session.run(None, feed)
    # A clock may stand still over one call.
    duration = max(perf_counter() - begun, 1e-6)
    for _ in range(int(min(max(SECONDS / duration, RUNS[0]), RUNS[1]))):
        session.run(None, feed)


def _representative_sites(layers: Iterable[Layer]) -> list[Site]:
    """By kind of layer with width-dependent kernels, the site of the layer with the most multiply-adds."""
    work: dict[str, tuple[int, Site]] = {}
    for layer in layers:
        site = layer.site
        # Matrix products have no layout in blocks of channels, and groups are too narrow for it.
        if site.kind != "linear" and site.groups == 1 and layer.inputs >= UNIT:
            size = site.out[0] * site.out[1] * site.kernel[0] * site.kernel[1] * layer.outputs
            size *= 1 if site.kind == "depthwise" else layer.inputs
            work[site.kind] = max(work.get(site.kind, (0, site)), (size, site))
    return [site for _, site in work.values()]


def _probe_widths() -> list[int]:
    return [PROBE_WIDTH, PROBE_WIDTH + UNIT, *(PROBE_WIDTH + r for r in SUBDIVISIONS)]


def _values_up_to(values: list[int], width: int) -> list[int]:
    """Values needed to interpolate up to a width."""
    return [v for i, v in enumerate(values) if v <= width or not i or values[i - 1] < width]
