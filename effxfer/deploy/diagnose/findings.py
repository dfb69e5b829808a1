"""Why a model is not faster: one function per reason, each looking at what was measured.

A finding says where, what share of the time is there, what to do, and what that is expected to bring. Where another
graph can be built that computes the same, the gain is measured on it; where it cannot, the largest possible gain is
given and called so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from effxfer.benchmark.measure.op_costs import COMPUTE, CONVERT, MOVE, quantized
from effxfer.deploy.diagnose.measurements import LAYERS, LEAST, Examined, float_nodes
from effxfer.deploy.graph import qoperators
from effxfer.deploy.graph.dequantize import DQ, is_quantized
from effxfer.deploy.graph.graph import Graph, attributes

if TYPE_CHECKING:
    import onnx

MANY_ZEROS = 30.0
MUCH_CONVERTING = 10.0
MUCH_MOVING = 20.0
How = Literal["measured", "at most"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One reason why a model is not faster.

    Attributes:
        name: In a few words.
        where: Names of the file's nodes.
        share: Of the time of all kernels, in percent, that is spent there.
        do: What to do about it.
        gain: Expected reduction of p50, in percent.
        low: Lower end of its 95 % interval; 0 where it is `at most`.
        high: Upper end.
        how: `measured`: the changed graph was timed in turns with the file; `at most`: what would be gained if all of
            that time went away.
    """

    name: str
    where: tuple[str, ...]
    share: float
    do: str
    gain: float
    low: float
    high: float
    how: How

    def row(self) -> dict[str, Any]:
        """Give a row of the report's table."""
        some = ", ".join(self.where[:3]) + (f" and {len(self.where) - 3} more" if len(self.where) > 3 else "")
        span = f"[{self.low:.1f}, {self.high:.1f}]" if self.how == "measured" else ""
        return {"finding": self.name, "time %": round(self.share, 1), "gain %": round(self.gain, 1), "95 %": span,
                "how": self.how, "where": some, "do": self.do}  # fmt: skip


def measured(known: Examined, alternative: str, name: str, do: str, share: float | None = None) -> list[Finding]:
    """Give a finding if an alternative is faster than the file."""
    timing = known.faster(alternative)
    if timing is None:
        return []
    where = known.rewrites[alternative].nodes
    share = known.share(lambda _, node: node in where) if share is None else share
    return [
        Finding(
            name=name, where=where, share=share, do=do, how="measured", gain=100 * (1 - timing.ratio),
            low=100 * (1 - timing.ratio_high), high=100 * (1 - timing.ratio_low),
        )
    ]  # fmt: skip


def scattered(known: Examined) -> list[Finding]:
    """Zeros among the weights: ONNX Runtime multiplies by them like by any number."""
    shares = {node.name: zeros(known.graph, node) for node in known.graph.nodes if node.op_type in LAYERS}
    many = {name: share for name, share in shares.items() if share >= MANY_ZEROS}
    gain = sum(k.ms * many.get(name, 0.0) for k, name in zip(known.kernels, known.nodes, strict=True)) / known.total
    if gain < LEAST:
        return []
    share = known.share(lambda _, node: node in many)
    do = "zeros save nothing where they are: prune whole channels (`effxfer prune --method channels`)"
    return [_at_most(f"sparsity stored, not used ({_typical(many):.0f} % zeros)", many, share, do, gain)]


def islands(known: Examined) -> list[Finding]:
    """Operators that stay in float32 in a quantized file, and the conversions around them."""
    if not is_quantized(known.graph):
        return []
    names = float_nodes(known)
    share = known.share(lambda kernel, _: kernel.op in CONVERT)
    best = min(
        (t for name in ("in float32", "float32 around islands") if (t := known.faster(name))),
        key=lambda timing: timing.ratio, default=None,
    )  # fmt: skip
    if best is not None:
        whole = best.name == "in float32"
        title = "quantized, yet slower than float32" if whole else "float32 islands among quantized operators"
        do = "ship the float32 file" if whole else "leave the layers around them in float32, too"
        do += "; `effxfer export` measures which int8 recipe is faster on this CPU, if any is"
        (found,) = measured(known, best.name, title, do, share)
        return [replace(found, where=names or found.where)]
    if share < MUCH_CONVERTING:
        return []
    do = "quantize the operators between, or leave the layers around them in float32"
    return [_at_most("conversions between int8 and float32", names, share, do, share)]


def integer_operators(known: Examined) -> list[Finding]:
    """Operators of quantized files without QDQ nodes that are slower than float32, or than with such nodes."""
    kinds = qoperators.kinds(known.graph)
    best = min(
        (t for name in ("in float32", "with QDQ nodes") if kinds and (t := known.faster(name))),
        key=lambda timing: timing.ratio, default=None,
    )  # fmt: skip
    if best is None:
        return []
    whole = best.name == "in float32"
    name = f"{', '.join(kinds)} slower than {'float32' if whole else 'the same with QDQ nodes'}"
    do = "ship the float32 file; " if whole else ""
    do += "quantize with ranges measured beforehand, QDQ nodes and uint8 activations: `effxfer export` measures it"
    return measured(
        known, best.name, name, do, known.share(lambda kernel, _: kernel.op in COMPUTE and quantized(kernel))
    )


def signed(known: Examined) -> list[Finding]:
    """Activations quantized to int8, for which x86 has no fast kernels in ONNX Runtime."""
    do = "quantize activations to uint8 (recipe `u8s8`) on x86; check the accuracy, sums may saturate without VNNI"
    return measured(known, "uint8 activations", "int8 activations", do)


def movement(known: Examined) -> list[Finding]:
    """Time in operators that compute nothing: reshapes, transposes, casts, changes of layout."""
    share = known.share(lambda kernel, _: kernel.op in MOVE)
    if share < MUCH_MOVING:
        return []
    by: dict[str, float] = {}
    for kernel, name in zip(known.kernels, known.nodes, strict=True):
        if kernel.op in MOVE:
            by[f"{kernel.op} {name}"] = by.get(f"{kernel.op} {name}", 0.0) + kernel.ms
    where = tuple(sorted(by, key=lambda name: -by[name]))
    do = "use layers that keep one layout (channels first, no transposes between layers), one type, fixed shapes"
    return [_at_most("moving data, not computing", where, share, do, share)]


FINDINGS: tuple[Callable[[Examined], list[Finding]], ...] = (
    integer_operators, islands, movement, scattered, signed,
)  # fmt: skip


def zeros(graph: Graph, node: "onnx.NodeProto") -> float:
    """Share of a layer's weights that are zero, in percent; of quantized ones, that stand for zero."""
    name = node.input[1]
    value, maker = graph.constants.get(name), graph.producers.get(name)
    if value is None and maker is not None and maker.op_type == DQ and maker.input[0] in graph.constants:
        value = graph.constants[maker.input[0]]
        points = graph.constants.get(maker.input[2]) if len(maker.input) > 2 else None
        if points is not None and points.size > 1:
            axis = attributes(maker).get("axis", 1) % value.ndim
            points = points.reshape([-1 if other == axis else 1 for other in range(value.ndim)])
        value = value if points is None else value.astype(np.int32) - points
    return 0.0 if value is None or not value.size else 100 * float((value == 0).mean())


def _at_most(name: str, where: Iterable[str], share: float, do: str, gain: float) -> Finding:
    return Finding(name=name, where=tuple(where), share=share, do=do, gain=gain, low=0.0, high=gain, how="at most")


def _typical(shares: Mapping[str, float]) -> float:
    return float(np.median(list(shares.values())))
