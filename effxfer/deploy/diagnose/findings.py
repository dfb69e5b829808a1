"""Why a model is not faster: one function per reason, each based on the measurements of a profiled model.

A finding names the nodes, their share of the time, the advice, and the expected gain. If an equivalent graph can be
built, its gain is measured; if not, the finding states the largest possible gain and marks it `at most`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from effxfer.benchmark.measure.op_costs import COMPUTE, CONVERT, MOVE, is_quantized_kernel
from effxfer.deploy.diagnose.measurements import LAYERS, MIN_GAIN, ProfiledModel, float_nodes
from effxfer.deploy.graph import qoperators
from effxfer.deploy.graph.dequantize import DQ, is_quantized
from effxfer.deploy.graph.graph import Graph, attributes

if TYPE_CHECKING:
    import onnx

# Percent; chosen, like the next two: below, the remedy could hardly gain what the noise of a timing hides.
MIN_ZEROS = 30.0
MIN_CONVERTING = 10.0
MIN_MOVING = 20.0
Evidence = Literal["measured", "at most"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One reason why a model is not faster.

    Attributes:
        name: Short title.
        nodes: Names of the file's nodes.
        share: Their share of the time of all kernels, in percent.
        advice: What to do about it.
        gain: Expected reduction of p50, in percent.
        low: Lower end of its 95 % interval; 0 where it is `at most`.
        high: Upper end.
        how: `measured`: the changed graph was timed in turns with the file; `at most`: the gain if those nodes took no
            time.
    """

    name: str
    nodes: tuple[str, ...]
    share: float
    advice: str
    gain: float
    low: float
    high: float
    how: Evidence

    def row(self) -> dict[str, Any]:
        """Return the row of the report's table."""
        nodes = ", ".join(self.nodes[:3]) + (f" and {len(self.nodes) - 3} more" if len(self.nodes) > 3 else "")
        span = f"[{self.low:.1f}, {self.high:.1f}]" if self.how == "measured" else ""
        return {"finding": self.name, "time %": round(self.share, 1), "gain %": round(self.gain, 1), "95 %": span,
                "how": self.how, "where": nodes, "do": self.advice}  # fmt: skip


def measured_finding(
    profiled: ProfiledModel, alternative: str, name: str, do: str, share: float | None = None
) -> list[Finding]:
    """Return a finding if an alternative is faster than the file."""
    timing = profiled.faster_timing(alternative)
    if timing is None:
        return []
    nodes = profiled.rewrites[alternative].nodes
    share = profiled.share(lambda _, node: node in nodes) if share is None else share
    return [
        Finding(
            name=name, nodes=nodes, share=share, advice=do, how="measured", gain=100 * (1 - timing.ratio),
            low=100 * (1 - timing.ratio_high), high=100 * (1 - timing.ratio_low),
        )
    ]  # fmt: skip


def unused_sparsity(profiled: ProfiledModel) -> list[Finding]:
    """Zeros among the weights: ONNX Runtime multiplies by them as by any number."""
    shares = {node.name: zero_share(profiled.graph, node) for node in profiled.graph.nodes if node.op_type in LAYERS}
    sparse_layers = {name: share for name, share in shares.items() if share >= MIN_ZEROS}
    gain = (
        sum(k.ms * sparse_layers.get(name, 0.0) for k, name in zip(profiled.kernels, profiled.nodes, strict=True))
        / profiled.total
    )
    if gain < MIN_GAIN:
        return []
    share = profiled.share(lambda _, node: node in sparse_layers)
    # Measured: 90 % zeros, ResNet-18: 33.94 and 33.97 ms; MobileNetV3-small: 1.73 and 1.60 ms, which is noise.
    do = "single zeros save no time: prune whole channels (`effxfer prune --method channels`)"
    return [
        _at_most(f"sparsity stored, not used ({_median(sparse_layers):.0f} % zeros)", sparse_layers, share, do, gain)
    ]


def float_islands(profiled: ProfiledModel) -> list[Finding]:
    """Operators in float32 in a quantized file, and the conversions around them."""
    if not is_quantized(profiled.graph):
        return []
    names = float_nodes(profiled)
    share = profiled.share(lambda kernel, _: kernel.op in CONVERT)
    best = min(
        (t for name in ("in float32", "float32 around islands") if (t := profiled.faster_timing(name))),
        key=lambda timing: timing.ratio, default=None,
    )  # fmt: skip
    if best is not None:
        all_float = best.name == "in float32"
        title = "quantized, yet slower than float32" if all_float else "float32 islands among quantized operators"
        do = "ship the float32 file" if all_float else "keep the layers around them in float32, too"
        do += "; `effxfer export` measures which int8 recipe is faster on this CPU, if any is"
        (finding,) = measured_finding(profiled, best.name, title, do, share)
        return [replace(finding, nodes=names or finding.nodes)]
    if share < MIN_CONVERTING:
        return []
    do = "quantize the operators between, or keep the layers around them in float32"
    return [_at_most("conversions between int8 and float32", names, share, do, share)]


def integer_operators(profiled: ProfiledModel) -> list[Finding]:
    """Quantized operators without QDQ nodes that are slower than float32, or than their QDQ form."""
    kinds = qoperators.quantized_operators(profiled.graph)
    best = min(
        (t for name in ("in float32", "with QDQ nodes") if kinds and (t := profiled.faster_timing(name))),
        key=lambda timing: timing.ratio, default=None,
    )  # fmt: skip
    if best is None:
        return []
    all_float = best.name == "in float32"
    name = f"{', '.join(kinds)} slower than {'float32' if all_float else 'their QDQ form'}"
    do = "ship the float32 file; " if all_float else ""
    do += "quantize with ranges measured beforehand, QDQ nodes and uint8 activations: `effxfer export` measures it"
    return measured_finding(
        profiled,
        best.name,
        name,
        do,
        profiled.share(lambda kernel, _: kernel.op in COMPUTE and is_quantized_kernel(kernel)),
    )


def signed_activations(profiled: ProfiledModel) -> list[Finding]:
    """Activations quantized to int8, for which x86 has no fast kernels in ONNX Runtime."""
    do = "quantize activations to uint8 (recipe `u8s8`) on x86; check the accuracy, as sums may saturate without VNNI"
    return measured_finding(profiled, "uint8 activations", "int8 activations", do)


def data_movement(profiled: ProfiledModel) -> list[Finding]:
    """Time in operators that only move data: reshapes, transposes, casts, changes of layout."""
    share = profiled.share(lambda kernel, _: kernel.op in MOVE)
    if share < MIN_MOVING:
        return []
    ms_by_node: dict[str, float] = {}
    for kernel, name in zip(profiled.kernels, profiled.nodes, strict=True):
        if kernel.op in MOVE:
            ms_by_node[f"{kernel.op} {name}"] = ms_by_node.get(f"{kernel.op} {name}", 0.0) + kernel.ms
    nodes = tuple(sorted(ms_by_node, key=lambda name: -ms_by_node[name]))
    do = "use layers that keep one layout (channels first, no transposes between layers), one type, fixed shapes"
    return [_at_most("moving data, not computing", nodes, share, do, share)]


FINDINGS: tuple[Callable[[ProfiledModel], list[Finding]], ...] = (
    integer_operators, float_islands, data_movement, unused_sparsity, signed_activations,
)  # fmt: skip


def zero_share(graph: Graph, node: "onnx.NodeProto") -> float:
    """Percent of a layer's weights that are zero; of quantized weights, those equal to the zero point."""
    name = node.input[1]
    value, producer = graph.constants.get(name), graph.producers.get(name)
    if value is None and producer is not None and producer.op_type == DQ and producer.input[0] in graph.constants:
        value = graph.constants[producer.input[0]]
        points = graph.constants.get(producer.input[2]) if len(producer.input) > 2 else None
        if points is not None and points.size > 1:
            axis = attributes(producer).get("axis", 1) % value.ndim
            # One zero point a channel.
            points = points.reshape([-1 if other == axis else 1 for other in range(value.ndim)])
        value = value if points is None else value.astype(np.int32) - points
    return 0.0 if value is None or not value.size else 100 * float((value == 0).mean())


def _at_most(name: str, nodes: Iterable[str], share: float, do: str, gain: float) -> Finding:
    return Finding(name=name, nodes=tuple(nodes), share=share, advice=do, gain=gain, low=0.0, high=gain, how="at most")


def _median(shares: Mapping[str, float]) -> float:
    return float(np.median(list(shares.values())))
