"""Measure the latency of heads, and of bodies that end early, in ONNX Runtime.

The body is exported once and cut into pieces. A network of the search is the piece of the body up to its deepest layer,
followed by the graph of a head.
"""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.benchmark.protocol.latency import Timing, compare, onnx_runner
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.deploy.export.onnx import FREE, convert
from effxfer.net.compression.early_exit import check_exit, find_modules_after
from effxfer.net.edits import apply_edit
from effxfer.net.heads.build import build_head
from effxfer.net.heads.pools import Pool
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.net import Net
from effxfer.net.taps import example_input
from effxfer.runtime.threads import usable_cores
from effxfer.search.costs import Costs
from effxfer.search.finalist import Heads, LatencyRatio
from effxfer.search.space import JOIN, SearchSettings, Taps
from effxfer.stages.head_search.features import FeaturePlan, deepest_layer

# Chosen, not measured. There are few bodies and finalists, and they decide; of pools
# there are many, each a small share.
BODY_SECONDS, POOL_SECONDS, FINAL_SECONDS = 1.5, 0.15, 2.0
PARTS, EXPORT_SECONDS = 2, 10.0  # exports of pools and finalists take up to so many times that of the body
# Twice that of `bench`: costs are added up and only rank heads; the finalists are timed whole.
PRECISION = 0.02
# Chosen: wide enough that its time stands out from noise, so that the slope per million weights is known.
WIDE = 512


class ParallelModules(nn.Module):
    """Modules in parallel, each fed by some of several inputs.

    Args:
        parts: Modules, each with the positions of its inputs; a module takes its inputs as one list.
    """

    takes_any = True

    def __init__(self, parts: Sequence[tuple[nn.Module, Sequence[int]]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part for part, _ in parts)
        self.places = [list(places) for _, places in parts]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the output of each module."""
        return tuple(part([inputs[k] for k in places]) for part, places in zip(self.parts, self.places, strict=True))


class Body(nn.Module):
    """A network's body that returns the outputs of several layers."""

    def __init__(self, net: Net, names: Sequence[str]) -> None:
        super().__init__()
        self.net, self.names = net, list(names)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an input `(B, ...)` to what heads take of the named layers."""
        return tuple(layer.clone() for layer in self.net.pool_inputs(x, self.names))


class Head(nn.Module):
    """A head with its pooling, fed by the outputs of layers."""

    def __init__(self, head: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.head, self.pool = head, pool

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Map outputs of layers to logits `(B, C)`."""
        logits: Tensor = self.head(self.pool(layers))
        return logits


class TaskHeads(nn.Module):
    """The head of one task and those of the others, fed by the outputs of layers.

    Args:
        head: The head, fed by the first layers.
        plain_heads: Those of the other tasks, all fed by the remaining layers.
        count: Number of the first layers.
    """

    def __init__(self, head: Head, plain_heads: Sequence[Head], count: int) -> None:
        super().__init__()
        self.head, self.plain_heads, self.count = head, nn.ModuleList(plain_heads), count

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Map outputs of layers to the outputs of all tasks side by side."""
        first, last = layers[: self.count], layers[self.count :]
        return torch.cat([self.head(first), *(head(last) for head in self.plain_heads)], 1)


class HeadLatencyMeter:
    """Times a body that ends at several sets of layers, and heads on it; one image per call.

    It serves all tasks of a network: the body, pools and classifiers are timed once.

    Args:
        net: The network; its head is not used.
        plan: Layers of the features.
        settings: Number of threads, and limits of the pools.
        widths: Columns of the head of each task.
        folder: Folder for files, which the caller removes.
        length: Tokens of a text; 0 is the most that a text may have.
    """

    def __init__(
        self, net: Net, plan: FeaturePlan, settings: SearchSettings, widths: Sequence[int], folder: Path,
        length: int = 0,
    ) -> None:  # fmt: skip
        # A copy on the CPU: the search goes on with the network on its own device.
        self.net, self.plan, self.settings, self.widths = deepcopy(net).cpu().eval(), plan, settings, tuple(widths)
        self.folder, self.threads = folder, settings.threads or usable_cores()
        self.length = length or net.input.size
        self.names = list(dict.fromkeys([*plan.taps, *plan.maps.values()]))
        self._body: Any = None
        self._costs: Costs | None = None
        # Until an export was timed; afterwards the last one is the estimate.
        self._seconds = EXPORT_SECONDS
        with torch.no_grad():
            layers = self.net.pool_inputs(example_input(self.net), self.names)
        self.examples = {name: layer.clone() for name, layer in zip(self.names, layers, strict=True)}

    def costs(self, choices: Sequence[Taps], until: float) -> Costs | None:
        """Time the body up to each set of layers, each pool on each layer, and two classifiers.

        Return None if this and the timing of the finalists would end after `until`.
        """
        if self._costs:
            return self._costs
        began, ends = time.monotonic(), {JOIN.join(taps): deepest_layer(self.net, taps) for taps in choices}
        # The first export tells how long the next ones take: all of them hold the same operators.
        self._body_graph()
        timing = BODY_SECONDS * len(set(ends.values())) + FINAL_SECONDS * (self.settings.finalists + 1)
        if time.monotonic() + PARTS * (time.monotonic() - began) + timing > until:
            return None
        body = self._bodies(list(dict.fromkeys(ends.values())))
        millions = {end: self._millions(end) for end in set(ends.values())}
        pools, sizes, base, slope = self._pools()
        self._costs = Costs(
            body={name: body[end] for name, end in ends.items()},
            pools=pools,
            sizes=sizes,
            base=base,
            per_million=slope,
            millions={name: millions[end] for name, end in ends.items()},
        )
        return self._costs

    def time_finalists(
        self, heads: Heads, plain: int, task: int = 0, plain_taps: Taps = ()
    ) -> Mapping[int, LatencyRatio]:
        """Time complete networks with heads, by trial number, against the one with the plain linear head.

        Args:
            heads: The heads of a task.
            plain: Number of the trial with the plain linear head.
            task: Place of the task among the widths.
            plain_taps: Layers that the plain linear heads of the other tasks read.
        """
        width, widths = self.widths[task], [*self.widths[:task], *self.widths[task + 1 :]]
        plain_heads = [self._head(HeadSpec(), plain_taps, each) for each in widths]
        sources, parts = dict[int, list[str]](), list[tuple[nn.Module, list[str]]]()
        for number, (spec, taps, state) in heads.items():
            names = [self._source(spec, tap) for tap in taps]
            head = self._head(spec, taps, width, state)
            sources[number] = [*names, *plain_taps] if plain_heads else names
            parts.append((TaskHeads(head, plain_heads, len(names)) if plain_heads else head, sources[number]))
        together = self._export(parts)
        files = dict[int, Path]()
        for k, (number, names) in enumerate(sources.items()):
            files[number] = self._merge(together, k, names, self.folder / f"finalist-{number}.onnx")
        timings = self._compare({str(n): file for n, file in files.items()}, str(plain), FINAL_SECONDS)
        return {
            int(name): LatencyRatio(ms=timing.p50, ratio=timing.ratio, low=timing.ratio_low, high=timing.ratio_high)
            for name, timing in timings.items()
        }

    def finalist_seconds(self) -> float:
        """Estimate the seconds of `time_finalists`: the duration of the last export, and the timing."""
        return self._seconds + FINAL_SECONDS * (self.settings.finalists + 1)

    def channels(self, taps: Taps) -> list[int]:
        """Return the channels of layers."""
        return [_channels(self.examples[tap]) for tap in taps]

    def _source(self, spec: HeadSpec, tap: str) -> str:
        return self.plan.maps[tap] if spec.pool != "mean" else tap

    def _head(self, spec: HeadSpec, taps: Taps, classes: int, state: Mapping[str, Tensor] | None = None) -> Head:
        widths = [_channels(self.examples[self._source(spec, tap)]) for tap in taps]
        head = build_head(spec, widths, classes)
        if state is not None:
            head.load_state_dict(dict(state))
        pool = getattr(head, "pool", None) or Pool(HeadSpec(), widths)
        return Head(head, pool).eval()

    def _body_graph(self) -> Any:
        if self._body is None:
            module = Body(self.net, self.names).eval()
            outputs = [f"layer{k}" for k in range(len(self.names))]
            input = self.net.input
            self._body = convert(module, (example_input(self.net),), free={input.name: input.free}, outputs=outputs)
        return self._body

    def _bodies(self, ends: Sequence[str]) -> dict[str, float]:
        """Measure the p50 of the body up to each of several layers, in turns."""
        files = {end: self._piece(self._body_graph(), [self.net.input.name], [self._layer(end)], f"body-{k}")
                 for k, end in enumerate(ends)}  # fmt: skip
        last = deepest_layer(self.net, ends)
        return {end: timing.p50 for end, timing in self._compare(files, last, BODY_SECONDS).items()}

    def _layer(self, name: str) -> str:
        return f"layer{self.names.index(name)}"

    def _millions(self, end: str) -> float:
        removed = find_modules_after(self.net, end)
        trial = deepcopy(self.net)
        if check_exit(self.net, end, removed):
            apply_edit(trial, "cut", gone=removed)
        return sum(p.numel() for p in trial.body.parameters()) / 1e6

    def _pools(self) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[int, int]], float, float]:
        """Time the smallest and the largest form of each pool on each layer, and classifiers of two sizes."""
        kinds = ["mean", *(p for p in self.settings.pools if p != "mean" and self.plan.maps)]
        parts, names = list[tuple[nn.Module, list[str]]](), list[tuple[str, str, int]]()
        sizes = {kind: _sizes(kind, self.settings) for kind in kinds}
        for kind in kinds:
            for tap in self.plan.taps:
                for side, spec in enumerate(self._extremes(kind, sizes[kind])):
                    source = self._source(spec, tap)
                    parts.append((Pool(spec, [_channels(self.examples[source])]), [source]))
                    names.append((kind, tap, side))
        tap = self.plan.taps[-1]
        for spec in (HeadSpec(), HeadSpec(kind="mlp", width=WIDE)):
            parts.append((self._head(spec, (tap,), self.widths[0]), [tap]))
            names.append((spec.kind, tap, 0))
        graph = self._export(parts)
        ms = {name: self._part_ms(graph, k, parts[k][1]) for k, name in enumerate(names)}
        pools = {f"{kind} {tap}": (ms[kind, tap, 0], ms.get((kind, tap, 1), ms[kind, tap, 0]))
                 for kind in kinds for tap in self.plan.taps}  # fmt: skip
        # A part is timed with its pool; what remains without it is the classifier's own.
        small, large = (ms[kind, tap, 0] - pools[f"mean {tap}"][0] for kind in ("linear", "mlp"))
        width = _channels(self.examples[tap])
        # Weights of the hidden and the last layer, less those of the linear classifier, in millions.
        added = ((width + 1) * WIDE + (WIDE - width) * self.widths[0]) / 1e6
        # Never negative: noise would otherwise pay for larger heads.
        return pools, sizes, max(small, 0.0), max(large - small, 0.0) / added

    def _extremes(self, kind: str, sizes: tuple[int, int]) -> list[HeadSpec]:
        plain = HeadSpec.model_validate({"pool": kind, "grid": 0 if kind == "mean" else self.plan.grid})
        fields = {"attention": "queries", "bilinear": "rank"}
        if kind not in fields:
            return [plain.model_copy(update={"learn_power": False})]
        return [plain.model_copy(update={fields[kind]: size}) for size in sizes]

    def _export(self, parts: Sequence[tuple[nn.Module, Sequence[str]]]) -> Any:
        """Export several modules that are fed by layers as one graph."""
        began = time.monotonic()
        modules = ParallelModules([(part, [self.names.index(name) for name in names]) for part, names in parts]).eval()
        graph = convert(
            modules, tuple(self.examples[name] for name in self.names),
            free={self._layer(name): FREE for name in self.names}, outputs=[f"made{k}" for k in range(len(parts))],
        )  # fmt: skip
        self._seconds = time.monotonic() - began
        return graph

    def _piece(self, graph: Any, inputs: list[str], outputs: list[str], name: str) -> Path:
        """Write the part of a graph between input and output tensors."""
        import onnx

        file = self.folder / f"{name}.onnx"
        onnx.save(onnx.utils.Extractor(graph).extract_model(inputs, outputs), file)
        return file

    def _merge(self, heads: Any, k: int, names: Sequence[str], file: Path) -> Path:
        """Connect a head's graph to the body's, without the layers that the head does not need."""
        import onnx

        used = [self._layer(name) for name in dict.fromkeys(names)]
        extract = onnx.utils.Extractor
        # Both graphs name their nodes from 0: without a prefix they would collide.
        head = onnx.compose.add_prefix(extract(heads).extract_model(used, [f"made{k}"]), "head/")
        body = extract(self._body_graph()).extract_model([self.net.input.name], used)
        links = [(name, f"head/{name}") for name in used]
        onnx.save(onnx.compose.merge_models(body, head, io_map=links), file)
        return file

    def _part_ms(self, graph: Any, k: int, names: Sequence[str]) -> float:
        used = [self._layer(name) for name in dict.fromkeys(names)]
        file = self._piece(graph, used, [f"made{k}"], f"part-{k}")
        return self._compare({"it": file}, "it", POOL_SECONDS)["it"].p50

    def _compare(self, files: Mapping[str, Path], baseline: str, seconds: float) -> dict[str, Timing]:
        runners = {name: onnx_runner(file, feed_for(file, size=self.length), self.threads)
                   for name, file in files.items()}  # fmt: skip
        timings = compare(
            runners, baseline=baseline, threads=self.threads, precision=PRECISION, min_seconds=0.0,
            max_seconds=seconds * len(files),
        )  # fmt: skip
        return {timing.name: timing for timing in timings}


def _channels(layer: Tensor) -> int:
    return layer.shape[2] if layer.dim() == 3 else layer.shape[1]


def _sizes(kind: str, settings: SearchSettings) -> tuple[int, int]:
    largest = {"attention": settings.max_queries, "bilinear": settings.max_rank}.get(kind, 1)
    # 4: the least rank that the search space offers.
    return min({"bilinear": 4}.get(kind, 1), largest), largest
