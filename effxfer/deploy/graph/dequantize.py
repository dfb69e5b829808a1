"""Remove quantization from a QDQ file, everywhere or around some nodes, or change the type of its activations."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.graph.graph import Graph, Rewrite, attributes, copy_model, replace_nodes, set_constant

if TYPE_CHECKING:
    import onnx

Q, DQ = "QuantizeLinear", "DequantizeLinear"


def is_quantized(graph: Graph) -> bool:
    """Whether activations are quantized by pairs of QDQ nodes."""
    return bool(_pairs(graph))


def to_float(graph: Graph, around: Collection[str] | None = None) -> Rewrite | None:
    """Remove pairs of quantize and dequantize nodes; layers that lose one store their weights as float32.

    Args:
        graph: The graph.
        around: Names of nodes; only pairs at their inputs and outputs are removed. None removes all pairs.

    Returns:
        The graph; None if there are no such pairs. It uses the rounded weights but does not round activations, so it
        is not the same function.
    """
    pairs = _pairs(graph)
    if around is not None:
        names = {node.name: node for node in graph.nodes}
        pairs = {dq: q for dq, q in pairs.items() if _touches(graph, names[dq], names[q], around)}
    if not pairs:
        return None
    from onnx import helper

    model, names = copy_model(graph.model), {node.name: node for node in graph.nodes}
    source = {names[dq].output[0]: names[q].input[0] for dq, q in pairs.items()}
    nodes = []
    for node in model.graph.node:
        if node.name in pairs:
            outputs = [name for name in node.output if name in graph.outputs]
            nodes += [
                helper.make_node("Identity", [_original_tensor(source, name)], [name], name=node.name)
                for name in outputs
            ]
            continue
        node.input[:] = [_original_tensor(source, name) for name in node.input]
        nodes.append(node)
    model = _remove_unused_qdq(replace_nodes(model, nodes))
    _store_float_weights(model)
    return Rewrite(model=_remove_unused_qdq(model), nodes=tuple(sorted({*pairs, *pairs.values()})), exact=False)


def to_unsigned(graph: Graph) -> Rewrite | None:
    """Quantize activations to uint8 instead of int8, with zero points shifted by 128; None if none are int8."""
    model = copy_model(graph.model)
    changed = []
    for node in model.graph.node:
        zero = graph.constants.get(node.input[2]) if node.op_type in {Q, DQ} and len(node.input) > 2 else None
        # Weights stay: x86 multiplies unsigned activations with signed weights.
        if zero is None or zero.dtype != np.int8 or node.input[0] in graph.constants:
            continue
        # Codes and zero point move together: the values stay the same.
        shifted = (zero.astype(np.int16) + 128).astype(np.uint8)
        node.input[2] = set_constant(model, f"{node.input[2]}.unsigned", shifted)
        changed.append(node.name)
    if not changed:
        return None
    return Rewrite(model=replace_nodes(model, model.graph.node), nodes=tuple(changed), exact=False)


def _pairs(graph: Graph) -> dict[str, str]:
    """By the name of a node that dequantizes an activation, the name of the node that quantized it."""
    pairs = {}
    for node in graph.nodes:
        quantizer = graph.producers.get(node.input[0]) if node.op_type == DQ else None
        if quantizer is not None and quantizer.op_type == Q:
            pairs[node.name] = quantizer.name
    return pairs


def _touches(graph: Graph, dq: "onnx.NodeProto", q: "onnx.NodeProto", around: Collection[str]) -> bool:
    source = graph.producers.get(q.input[0])
    readers = graph.consumers.get(dq.output[0], [])
    return (source is not None and source.name in around) or any(node.name in around for node in readers)


def _original_tensor(source: dict[str, str], name: str) -> str:
    """Follow a chain of pairs back to the original tensor."""
    while name in source:
        name = source[name]
    return name


def _remove_unused_qdq(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Remove quantize and dequantize nodes that are not read, with their constants."""
    graph = Graph(model)
    read = set(graph.consumers) | graph.outputs
    used = [node for node in graph.nodes if node.op_type not in {Q, DQ} or node.output[0] in read]
    return (
        replace_nodes(model, used) if len(used) == len(graph.nodes) else _remove_unused_qdq(replace_nodes(model, used))
    )


def _store_float_weights(model: "onnx.ModelProto") -> None:
    """Store weights as float32 where a layer's input or output is no longer quantized, in place."""
    graph = Graph(model)
    float_names = {
        node.name for node in graph.nodes if node.op_type not in {Q, DQ} and not _is_quantized_node(graph, node)
    }
    for node in graph.nodes:
        readers = graph.consumers.get(node.output[0], []) if node.op_type == DQ else []
        if readers and node.input[0] in graph.constants and all(reader.name in float_names for reader in readers):
            value = _dequantize_constant(graph, node)
            name = set_constant(model, f"{node.output[0]}.float", value)
            for reader in readers:
                reader.input[:] = [name if tensor == node.output[0] else tensor for tensor in reader.input]


def _is_quantized_node(graph: Graph, node: "onnx.NodeProto") -> bool:
    """Whether the input and the output of a node are quantized."""
    producer = graph.producers.get(node.input[0]) if node.input else None
    readers = graph.consumers.get(node.output[0], [])
    return (
        producer is not None
        and producer.op_type == DQ
        and bool(readers)
        and all(reader.op_type == Q for reader in readers)
    )


def _dequantize_constant(graph: Graph, node: "onnx.NodeProto") -> NDArray[Any]:
    value, scale = graph.constants[node.input[0]], graph.constants[node.input[1]]
    zero = graph.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros_like(scale, np.int32)
    axis = attributes(node).get("axis", 1) % max(value.ndim, 1)
    shape = [-1 if scale.size > 1 and other == axis else 1 for other in range(value.ndim)]
    if scale.size > 1:
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    result: NDArray[Any] = ((value.astype(np.int32) - zero.astype(np.int32)) * scale).astype(np.float32)
    return result
