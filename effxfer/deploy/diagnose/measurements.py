"""A profiled model with timed alternatives: the input of all findings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from effxfer.benchmark.measure.op_costs import COMPUTE, CONVERT, MOVE, is_quantized_kernel
from effxfer.benchmark.measure.profile import Kernel, source_node
from effxfer.benchmark.protocol.latency import MIN_ROUNDS, Timing
from effxfer.deploy.graph import qoperators
from effxfer.deploy.graph.dequantize import DQ, is_quantized, to_float, to_unsigned
from effxfer.deploy.graph.graph import Graph, Rewrite
from effxfer.deploy.graph.qoperators import dynamic_to_float, to_qdq

if TYPE_CHECKING:
    import onnx

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
QUANTIZED = qoperators.LAYERS.keys() | qoperators.DYNAMIC.keys()
# Functions of ONNX without a kernel of their own in ONNX Runtime.
DECOMPOSED = {"Celu", "Elu", "Gelu", "GroupNormalization", "HardSwish", "Mish", "Selu", "Softplus"}
# Percent: a file against itself was off by 0.7 % at most in 20 comparisons (`benchmarks.noise`).
MIN_GAIN = 2.0
# Chosen: nodes above a fused one; convolution, scale, shift, two of an activation, and an addition.
MAX_FUSED = 6


@dataclass(frozen=True)
class ProfiledModel:
    """A model, its profile and the timings of its alternatives.

    Attributes:
        graph: Graph of the file.
        feed: Input that it was run on.
        kernels: Kernels with their times.
        timings: By name of an alternative, its timing relative to the file; empty before they are timed.
        rewrites: The alternatives.
        failed: Names of alternatives that failed to run, or whose outputs differ from the file's.
        noise: Distance from 1 of the p50 ratio of the file to itself.
    """

    graph: Graph
    feed: Mapping[str, NDArray[Any]]
    kernels: Sequence[Kernel]
    timings: Mapping[str, Timing]
    rewrites: Mapping[str, Rewrite]
    failed: tuple[str, ...] = ()
    noise: float = 0.0

    @cached_property
    def total(self) -> float:
        """Milliseconds of all kernels."""
        return max(sum(kernel.ms for kernel in self.kernels), 1e-9)

    @cached_property
    def nodes(self) -> Sequence[str]:
        """By kernel, the name of its node in the file, or its own name."""
        names = [node.name for node in self.graph.nodes]
        makers = {tensor: node.name for tensor, node in self.graph.producers.items()}
        by_name = {node.name: node for node in self.graph.nodes}
        origins = [source_node(kernel, names, makers) for kernel in self.kernels]
        return [
            _layer_before(self.graph, by_name[name]) if name in by_name and kernel.op in COMPUTE else name
            for kernel, name in zip(self.kernels, origins, strict=True)
        ]

    def share(self, predicate: Callable[[Kernel, str], bool]) -> float:
        """Percent of the kernels' time in kernels that fulfil `predicate(kernel, node)`."""
        times = (k.ms for k, name in zip(self.kernels, self.nodes, strict=True) if predicate(k, name))
        return 100 * sum(times) / self.total

    def faster_timing(self, name: str) -> Timing | None:
        """Return an alternative's timing if its interval is below 1, and the gain at least 2 % and above the noise.

        Fewer than five rounds give no usable interval.
        """
        timing = self.timings.get(name)
        if timing is None or timing.rounds < MIN_ROUNDS or timing.ratio_high >= 1:
            return None
        # Also above this run's own noise: a busy machine may be far from the usual one.
        if 1 - timing.ratio < max(MIN_GAIN / 100, self.noise):
            return None
        return timing


def build_alternatives(profiled: ProfiledModel) -> dict[str, Rewrite]:
    """Build the graphs that findings are measured on, except those equal to the file."""
    graph = profiled.graph
    qdq = to_qdq(graph)
    pairs = graph if qdq is None else Graph(qdq.model)
    rewrites = {
        "in float32": to_float(pairs) or dynamic_to_float(graph),
        "with QDQ nodes": qdq,
        "float32 around islands": to_float(graph, float_nodes(profiled)) if is_quantized(graph) else None,
        "uint8 activations": to_unsigned(pairs),
    }
    return {name: rewrite for name, rewrite in rewrites.items() if rewrite is not None}


def float_nodes(profiled: ProfiledModel) -> tuple[str, ...]:
    """Return the names of nodes that ran in float32 between quantized ones.

    ONNX Runtime decomposes the operators of `DECOMPOSED` into smaller ones with other names.
    """
    graph, ran = profiled.graph, dict[str, bool]()
    for kernel, name in zip(profiled.kernels, profiled.nodes, strict=True):
        # Conversions have float types on one side, whatever their layer is.
        if kernel.op not in CONVERT | MOVE:
            ran[name] = kernel.types[:1] == ("float",) and not is_quantized_kernel(kernel)
    return tuple(
        node.name
        for node in graph.nodes
        if any(_maker(graph, tensor) == DQ for tensor in node.input[:2])
        and ran.get(node.name, node.op_type in DECOMPOSED)
    )


def _maker(graph: Graph, tensor: str) -> str:
    node = graph.producers.get(tensor)
    return node.op_type if node is not None else ""


def _layer_before(graph: Graph, node: "onnx.NodeProto") -> str:
    """Return the nearest convolution or matrix product at or above a node that was fused into it."""
    level = [node]
    for _ in range(MAX_FUSED):
        for candidate in level:
            if candidate.op_type in LAYERS | QUANTIZED:
                return str(candidate.name)
        level = [graph.producers[name] for candidate in level for name in candidate.input if name in graph.producers]
    return str(node.name)
