"""Take quantization out of a QDQ file again, everywhere or around some nodes, or give its activations another type."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.graph.graph import Graph, Rewrite, attributes, copy, put, replace_nodes

if TYPE_CHECKING:
    import onnx

Q, DQ = "QuantizeLinear", "DequantizeLinear"


def is_quantized(graph: Graph) -> bool:
    """Whether activations are quantized by pairs of nodes (QDQ)."""
    return bool(_pairs(graph))


def to_float(graph: Graph, around: Collection[str] | None = None) -> Rewrite | None:
    """Take pairs of quantize and dequantize nodes out; layers that lose one keep their weights as float32.

    Args:
        graph: The graph.
        around: Names of nodes: only pairs at their inputs and outputs are taken out. None takes out all.

    Returns:
        The graph; None if there are no such pairs. It computes with the rounded weights but without rounding
        activations, so it is not the same function.
    """
    pairs = _pairs(graph)
    if around is not None:
        names = {node.name: node for node in graph.nodes}
        pairs = {dq: q for dq, q in pairs.items() if _touches(graph, names[dq], names[q], around)}
    if not pairs:
        return None
    from onnx import helper

    model, names = copy(graph.model), {node.name: node for node in graph.nodes}
    source = {names[dq].output[0]: names[q].input[0] for dq, q in pairs.items()}
    nodes = []
    for node in model.graph.node:
        if node.name in pairs:
            ends = [name for name in node.output if name in graph.outputs]
            nodes += [helper.make_node("Identity", [_first(source, name)], [name], name=node.name) for name in ends]
            continue
        node.input[:] = [_first(source, name) for name in node.input]
        nodes.append(node)
    model = _swept(replace_nodes(model, nodes))
    _float_weights(model)
    return Rewrite(model=_swept(model), nodes=tuple(sorted({*pairs, *pairs.values()})), exact=False)


def to_unsigned(graph: Graph) -> Rewrite | None:
    """Quantize activations to uint8 instead of int8, with zero points moved by 128; None if none are int8."""
    model = copy(graph.model)
    changed = []
    for node in model.graph.node:
        zero = graph.constants.get(node.input[2]) if node.op_type in {Q, DQ} and len(node.input) > 2 else None
        if zero is None or zero.dtype != np.int8 or node.input[0] in graph.constants:
            continue
        moved = (zero.astype(np.int16) + 128).astype(np.uint8)
        node.input[2] = put(model, f"{node.input[2]}.unsigned", moved)
        changed.append(node.name)
    if not changed:
        return None
    return Rewrite(model=replace_nodes(model, model.graph.node), nodes=tuple(changed), exact=False)


def _pairs(graph: Graph) -> dict[str, str]:
    """By the name of a node that dequantizes an activation, that of the node that quantized it."""
    found = {}
    for node in graph.nodes:
        before = graph.producers.get(node.input[0]) if node.op_type == DQ else None
        if before is not None and before.op_type == Q:
            found[node.name] = before.name
    return found


def _touches(graph: Graph, dq: "onnx.NodeProto", q: "onnx.NodeProto", around: Collection[str]) -> bool:
    source = graph.producers.get(q.input[0])
    readers = graph.consumers.get(dq.output[0], [])
    return (source is not None and source.name in around) or any(node.name in around for node in readers)


def _first(source: dict[str, str], name: str) -> str:
    """Follow a chain of pairs to the tensor that was quantized first."""
    while name in source:
        name = source[name]
    return name


def _swept(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Take out quantize and dequantize nodes that nobody reads, and constants with them."""
    graph = Graph(model)
    read = set(graph.consumers) | graph.outputs
    kept = [node for node in graph.nodes if node.op_type not in {Q, DQ} or node.output[0] in read]
    return replace_nodes(model, kept) if len(kept) == len(graph.nodes) else _swept(replace_nodes(model, kept))


def _float_weights(model: "onnx.ModelProto") -> None:
    """Store the weights of layers that no longer have both ends quantized as float32, in place."""
    graph = Graph(model)
    plain = {node.name for node in graph.nodes if node.op_type not in {Q, DQ} and not _whole(graph, node)}
    for node in graph.nodes:
        readers = graph.consumers.get(node.output[0], []) if node.op_type == DQ else []
        if readers and node.input[0] in graph.constants and all(one.name in plain for one in readers):
            value = _dequantized(graph, node)
            name = put(model, f"{node.output[0]}.float", value)
            for one in readers:
                one.input[:] = [name if given == node.output[0] else given for given in one.input]


def _whole(graph: Graph, node: "onnx.NodeProto") -> bool:
    """Whether what a node computes from and what it gives is quantized."""
    before = graph.producers.get(node.input[0]) if node.input else None
    after = graph.consumers.get(node.output[0], [])
    return before is not None and before.op_type == DQ and bool(after) and all(one.op_type == Q for one in after)


def _dequantized(graph: Graph, node: "onnx.NodeProto") -> NDArray[Any]:
    value, scale = graph.constants[node.input[0]], graph.constants[node.input[1]]
    zero = graph.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros_like(scale, np.int32)
    axis = attributes(node).get("axis", 1) % max(value.ndim, 1)
    shape = [-1 if scale.size > 1 and other == axis else 1 for other in range(value.ndim)]
    if scale.size > 1:
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    result: NDArray[Any] = ((value.astype(np.int32) - zero.astype(np.int32)) * scale).astype(np.float32)
    return result
