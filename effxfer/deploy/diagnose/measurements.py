"""A model and what was measured of it: what findings are drawn from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from effxfer.benchmark.measure.op_costs import COMPUTE, CONVERT, MOVE, quantized
from effxfer.benchmark.measure.profile import Kernel, origin
from effxfer.benchmark.protocol.latency import MIN_ROUNDS, Timing
from effxfer.deploy.graph import qoperators
from effxfer.deploy.graph.dequantize import DQ, is_quantized, to_float, to_unsigned
from effxfer.deploy.graph.graph import Graph, Rewrite
from effxfer.deploy.graph.qoperators import dynamic_to_float, to_qdq

if TYPE_CHECKING:
    import onnx

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
QUANTIZED = qoperators.LAYERS.keys() | qoperators.DYNAMIC.keys()
COMPOSED = {"Celu", "Elu", "Gelu", "GroupNormalization", "HardSwish", "Mish", "Selu", "Softplus"}
LEAST = 2.0
AROUND = 6


@dataclass(frozen=True)
class Examined:
    """A model and what was measured of it.

    Attributes:
        graph: The file.
        feed: What it was run on.
        kernels: What ran, with times.
        timings: By name of an alternative, how long it takes against the file; empty before they are timed.
        rewrites: The alternatives.
        failed: Names of alternatives that could not be run, or did not answer like the file.
        noise: By how much the file's p50 ratio to itself was off 1.
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
        """By kernel, the name of the file's node that it came from, or its own."""
        names = [node.name for node in self.graph.nodes]
        makers = {tensor: node.name for tensor, node in self.graph.producers.items()}
        known = {node.name: node for node in self.graph.nodes}
        found = [origin(kernel, names, makers) for kernel in self.kernels]
        return [
            _layer_before(self.graph, known[name]) if name in known and kernel.op in COMPUTE else name
            for kernel, name in zip(self.kernels, found, strict=True)
        ]

    def share(self, wanted: Callable[[Kernel, str], bool]) -> float:
        """Percent of the kernels' time in those that are wanted, by kernel and node."""
        times = (k.ms for k, name in zip(self.kernels, self.nodes, strict=True) if wanted(k, name))
        return 100 * sum(times) / self.total

    def faster(self, name: str) -> Timing | None:
        """Give an alternative's timing if its interval is below 1, and the gain at least 2 % and above the noise.

        Fewer than five rounds give no interval worth the name.
        """
        timing = self.timings.get(name)
        if timing is None or timing.rounds < MIN_ROUNDS or timing.ratio_high >= 1:
            return None
        if 1 - timing.ratio < max(LEAST / 100, self.noise):
            return None
        return timing


def alternatives(known: Examined) -> dict[str, Rewrite]:
    """Build the graphs that findings are measured on; those that would not differ are left out."""
    graph = known.graph
    qdq = to_qdq(graph)
    pairs = graph if qdq is None else Graph(qdq.model)
    made = {
        "in float32": to_float(pairs) or dynamic_to_float(graph),
        "with QDQ nodes": qdq,
        "float32 around islands": to_float(graph, float_nodes(known)) if is_quantized(graph) else None,
        "uint8 activations": to_unsigned(pairs),
    }
    return {name: rewrite for name, rewrite in made.items() if rewrite is not None}


def float_nodes(known: Examined) -> tuple[str, ...]:
    """Name the nodes that ran in float32 between quantized ones.

    ONNX Runtime runs some operators as the smaller ones that they are made of, under other names: those of `COMPOSED`.
    """
    graph, ran = known.graph, dict[str, bool]()
    for kernel, name in zip(known.kernels, known.nodes, strict=True):
        if kernel.op not in CONVERT | MOVE:
            ran[name] = kernel.types[:1] == ("float",) and not quantized(kernel)
    return tuple(
        node.name
        for node in graph.nodes
        if any(_maker(graph, tensor) == DQ for tensor in node.input[:2])
        and ran.get(node.name, node.op_type in COMPOSED)
    )


def _maker(graph: Graph, tensor: str) -> str:
    node = graph.producers.get(tensor)
    return node.op_type if node is not None else ""


def _layer_before(graph: Graph, node: "onnx.NodeProto") -> str:
    """The nearest convolution or matrix product at or above a node that was fused into it."""
    level = [node]
    for _ in range(AROUND):
        for one in level:
            if one.op_type in LAYERS | QUANTIZED:
                return str(one.name)
        level = [graph.producers[name] for one in level for name in one.input if name in graph.producers]
    return str(node.name)
