"""Find activation functions that were exported in pieces, and put the one operator in their place.

A region of element-wise nodes with one input is recognised by what it computes, not by what it looks like: it is run
over a range of numbers and compared with the known functions, so that every exporter's spelling is found.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import erf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.graph.graph import Graph, Rewrite, copy, named, replace_nodes
from effxfer.runtime.session import FATAL, open_session, session_options

if TYPE_CHECKING:
    import onnx

POINTS = np.concatenate([np.linspace(-8, 8, 161), [-60.0, -20.0, 20.0, 60.0]]).astype(np.float32)
PIECES = {"Abs", "Add", "Clip", "Div", "Erf", "Exp", "HardSigmoid", "Identity", "Log", "Max", "Min", "Mul", "Neg",
          "Pow", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"}  # fmt: skip
LARGEST = 12
FROM = 14
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An operator that ONNX Runtime computes in one go or fuses into the layer before it.

    Attributes:
        op: Its name.
        opset: The first operator set that has it.
        function: What it computes.
        attributes: To be set on the node.
    """

    op: str
    opset: int
    function: Callable[[Array], Array]
    attributes: tuple[tuple[str, Any], ...] = ()


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu(x: Array) -> Array:
    return np.array([value * 0.5 * (1 + erf(value / 2**0.5)) for value in x])


KNOWN = (
    Activation(op="HardSwish", opset=14, function=lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    Activation(
        op="HardSigmoid", opset=6, function=lambda x: np.clip(x / 6 + 0.5, 0, 1), attributes=(("alpha", 1 / 6),)
    ),
    Activation(op="Relu", opset=6, function=lambda x: np.maximum(x, 0)),
    Activation(op="Sigmoid", opset=6, function=_sigmoid),
    Activation(op="Tanh", opset=6, function=np.tanh),
    Activation(op="Gelu", opset=20, function=_gelu),
    Activation(
        op="Gelu",
        opset=20,
        function=lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        attributes=(("approximate", "tanh"),),
    ),
    Activation(op="Mish", opset=18, function=lambda x: x * np.tanh(np.log1p(np.exp(x)))),
)


@dataclass(frozen=True, kw_only=True)
class Region:
    """Element-wise nodes between one tensor and another.

    Attributes:
        nodes: In order.
        start: The tensor that is read.
        end: The tensor that is made.
    """

    nodes: "tuple[onnx.NodeProto, ...]"
    start: str
    end: str


def fuse(graph: Graph, newest: int | None = None) -> Rewrite | None:
    """Put one operator in the place of every activation that was exported in pieces; None if there is none.

    Args:
        graph: Brought to the operator set that has the operators.
        newest: Use operators of this operator set or older ones only; None is all.
    """
    found = list(_activations(graph, newest))
    if not found:
        return None
    model = _raised(copy(graph.model), max(activation.opset for _, activation in found))
    if model is None:
        return None
    from onnx import helper

    last = {region.nodes[-1].name: (region, activation) for region, activation in found}
    gone = {node.name for region, _ in found for node in region.nodes}
    nodes = []
    for node in model.graph.node:
        if node.name in last:
            region, activation = last[node.name]
            made = [region.start], [region.end]
            nodes.append(helper.make_node(activation.op, *made, name=node.name, **dict(activation.attributes)))
        elif node.name not in gone:
            nodes.append(node)
    return Rewrite(model=replace_nodes(model, nodes), nodes=tuple(sorted(gone)))


def _activations(graph: Graph, newest: int | None) -> Iterator[tuple[Region, Activation]]:
    """Regions that are a known activation, the largest first where several end in one node; they do not overlap."""
    order = {node.name: number for number, node in enumerate(graph.nodes)}
    taken, seen = set[str](), dict[str, Activation | None]()
    for node in reversed(graph.nodes):
        for region in reversed(list(regions(graph, node, order))):
            if taken & {one.name for one in region.nodes}:
                continue
            key = _signature(graph, region)
            if key not in seen:
                seen[key] = recognise(graph, region)
            activation = seen[key]
            if activation and activation.opset <= (newest or activation.opset):
                taken |= {one.name for one in region.nodes}
                yield region, activation
                break


def regions(graph: Graph, last: "onnx.NodeProto", order: dict[str, int]) -> Iterator[Region]:
    """Give the regions of at least two nodes that end in a node, the smallest first.

    Args:
        graph: The graph.
        last: The node.
        order: Place of every node.
    """
    inside: dict[str, onnx.NodeProto] = {}
    node: onnx.NodeProto | None = last
    while node is not None and node.op_type in PIECES and len(inside) < LARGEST and _closed(graph, node, inside):
        inside[node.name] = node
        made = {one.output[0] for one in inside.values()}
        front = {n for one in inside.values() for n in one.input if n and n not in graph.constants} - made
        if any(graph.constants[n].size != 1 for one in inside.values() for n in one.input if n in graph.constants):
            return
        if len(front) == 1 and len(inside) > 1:
            ordered = sorted(inside.values(), key=lambda one: order[one.name])
            yield Region(nodes=tuple(ordered), start=next(iter(front)), end=last.output[0])
        above = [graph.producers[name] for name in front if name in graph.producers]
        node = max(above, key=lambda one: order.get(one.name, -1), default=None)


def recognise(graph: Graph, region: Region) -> Activation | None:
    """Name the known activation that a region computes, or None."""
    values = evaluate(graph, region)
    if values is None:
        return None
    x = POINTS.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        fits = (a for a in KNOWN if np.allclose(values, a.function(x), rtol=1e-4, atol=2e-5))
        return next(fits, None)


def evaluate(graph: Graph, region: Region) -> Array | None:
    """Run a region over `POINTS`; None where ONNX Runtime does not take it, such as for numbers of another type."""
    from onnx import TensorProto, helper, numpy_helper

    read = {n for node in region.nodes for n in node.input if n in graph.constants}
    value = helper.make_tensor_value_info
    part = helper.make_graph(
        list(region.nodes),
        "region",
        [value(region.start, TensorProto.FLOAT, [len(POINTS)])],
        [value(region.end, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(graph.constants[n].copy(), n) for n in sorted(read)],
    )
    imports = [o for o in graph.model.opset_import if o.domain in {"", "ai.onnx"}]
    model = helper.make_model(part, opset_imports=imports, ir_version=graph.model.ir_version)
    try:
        session = open_session(model.SerializeToString(), session_options(threads=1, severity=FATAL))
        found = np.asarray(session.run(None, {region.start: POINTS})[0], np.float64)
    except Exception:  # ONNX Runtime's exceptions have no public home; what cannot run alone is not fused
        return None
    return found if found.shape == POINTS.shape else None


def _closed(graph: Graph, node: "onnx.NodeProto", inside: "dict[str, onnx.NodeProto]") -> bool:
    """Whether what a node gives is read inside the region only; the first node is its end."""
    if not inside:
        return True
    readers = graph.consumers.get(node.output[0], [])
    return node.output[0] not in graph.outputs and all(one.name in inside for one in readers)


def _signature(graph: Graph, region: Region) -> str:
    """Text that equal regions share: operators, constants, and how they are joined."""
    place = {region.start: "x"}
    words = []
    for number, node in enumerate(region.nodes):
        inputs = [place.get(n) or repr(graph.constants[n].reshape(-1).tolist() if n else "") for n in node.input]
        words.append(f"{node.op_type}({','.join(inputs)}){[a.SerializeToString() for a in node.attribute]}")
        place[node.output[0]] = f"t{number}"
    return ";".join(words)


def _raised(model: "onnx.ModelProto", opset: int) -> "onnx.ModelProto | None":
    """Bring a model to at least an operator set; None if a node cannot be converted."""
    from onnx import version_converter

    now = Graph(model).opset
    if now >= opset:
        return model
    try:
        return named(version_converter.convert_version(model, max(opset, FROM)))
    except Exception:  # the converter raises anything
        return None
