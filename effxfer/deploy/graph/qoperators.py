"""Rewrite files of quantized operators (QOperator) and of dynamic quantization into forms that can be compared.

A QOperator file becomes a QDQ file, in which the doctor removes quantization or changes its type; a dynamic file
becomes float32. Neither rounds exactly like the original.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from effxfer.deploy.graph.graph import (
    Graph,
    Rewrite,
    attributes,
    copy_model,
    name_nodes,
    remove_unread_nodes,
    replace_nodes,
    set_constant,
)

if TYPE_CHECKING:
    import onnx

BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
UNARY = {"QLinearGlobalAveragePool": "GlobalAveragePool", "QLinearSigmoid": "Sigmoid", "QLinearLeakyRelu": "LeakyRelu"}
LAYERS = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul", "QGemm": "Gemm"}
QLINEAR = {*BINARY, *UNARY, *LAYERS}
DYNAMIC = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
# They move or compare codes, so that input and output have one scale.
CODE_PRESERVING = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Relu"}
# The first whose DequantizeLinear has an axis.
PER_CHANNEL_OPSET = 13


def quantized_operators(graph: Graph) -> list[str]:
    """Return the quantized operators of a graph, in alphabetical order."""
    return sorted({node.op_type for node in graph.nodes} & (QLINEAR | DYNAMIC.keys()))


def to_qdq(graph: Graph) -> Rewrite | None:
    """Rewrite quantized operators as float ones between QDQ nodes; None if there are none, or one is unsupported."""
    if graph.opset < PER_CHANNEL_OPSET or not any(node.op_type in QLINEAR for node in graph.nodes):
        return None
    writer = _QdqWriter(Graph(copy_model(graph.model)))
    try:
        for node in writer.graph.nodes:
            writer.write(node)
    except _UnsupportedError:
        return None
    model = name_nodes(replace_nodes(writer.graph.model, writer.nodes))
    return Rewrite(model=model, nodes=tuple(writer.changed), exact=False)


def dynamic_to_float(graph: Graph) -> Rewrite | None:
    """Rewrite dynamically quantized products in float32; None if there are none of the usual form."""
    model = copy_model(graph.model)
    replaced = {}
    for node in graph.nodes:
        chain = _dynamic_chain(graph, node) if node.op_type in DYNAMIC else None
        if chain is not None:
            replaced[chain[-1].name] = node, chain
    if not replaced:
        return None
    nodes = [_float_layer(model, graph, *replaced[node.name]) if node.name in replaced else node
             for node in model.graph.node]  # fmt: skip
    model = remove_unread_nodes(replace_nodes(model, nodes))
    return Rewrite(model=model, nodes=tuple(node.name for node, _ in replaced.values()), exact=False)


class _UnsupportedError(Exception):
    """The graph computes a scale, or uses the channels-last layout."""


@dataclass
class _QdqWriter:
    """Writes a graph with QDQ nodes, node by node."""

    graph: Graph
    nodes: "list[onnx.NodeProto]" = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    scales: dict[str, tuple[str, str]] = field(default_factory=dict)

    def write(self, node: "onnx.NodeProto") -> None:
        """Write a node.

        Raises:
            _UnsupportedError: If its scale is computed, or its layout is channels-last.
        """
        if attributes(node).get("channels_last"):
            raise _UnsupportedError
        if node.op_type in QLINEAR:
            self.changed.append(node.name)
            handle: Callable[[Any], None] = self._write_layer if node.op_type in LAYERS else self._write_elementwise
            handle(node)
        elif node.op_type in CODE_PRESERVING and node.input[0] in self.scales:
            scale, zero = self.scales[node.input[0]]
            inputs = [self._float(node.input[0], scale, zero), *node.input[1:]]
            self._append_quantized(node, node.op_type, inputs, scale, zero, attributes(node))
        else:
            if node.op_type == "QuantizeLinear":
                self.scales[node.output[0]] = node.input[1], node.input[2]
            self.nodes.append(node)

    def _write_layer(self, node: "onnx.NodeProto") -> None:
        x, xs, xz, w, ws, wz, *tail = [*node.input, *[""] * 9][:9]
        output, bias = (tail[1:], tail[0]) if node.op_type == "QGemm" else (tail[:2], tail[2])
        settings = {k: v for k, v in attributes(node).items() if k != "channels_last"}
        axis = {"QLinearConv": 0, "QGemm": 0 if settings.get("transB") else 1}.get(node.op_type, -1)
        inputs = [self._float(x, xs, xz), self._float(w, ws, wz, axis)]
        if bias:
            inputs.append(self._dequantize(bias, self._bias_scale(bias, xs, ws), "", 0))
        scale, zero = [*output, "", ""][:2]
        self._append_quantized(node, LAYERS[node.op_type], inputs, scale, zero, settings)

    def _write_elementwise(self, node: "onnx.NodeProto") -> None:
        is_binary = node.op_type in BINARY
        inputs = [self._float(*node.input[place : place + 3]) for place in ((0, 3) if is_binary else (0,))]
        kind = BINARY[node.op_type] if is_binary else UNARY[node.op_type]
        settings = {k: v for k, v in attributes(node).items() if k == "alpha"}
        scale, zero = [*node.input[6 if is_binary else 3 :], ""][:2]
        self._append_quantized(node, kind, inputs, scale, zero, settings)

    def _float(self, tensor: str, scale: str, zero: str, axis: int = 1) -> str:
        """Dequantize a tensor by a constant scale; return the name of the result."""
        self._value(scale)
        return self._dequantize(tensor, scale, zero, axis)

    def _dequantize(self, tensor: str, scale: str, zero: str, axis: int) -> str:
        from onnx import helper

        name = f"{tensor}.float.{len(self.nodes)}"
        inputs = [tensor, scale, zero] if zero else [tensor, scale]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}.dq", axis=axis))
        return name

    def _bias_scale(self, bias: str, source: str, weight: str) -> str:
        """Add the scale of a bias, the product of the scales of input and weights; return its name."""
        return set_constant(self.graph.model, f"{bias}.step", self._value(source) * self._value(weight))

    def _append_quantized(
        self, node: "onnx.NodeProto", kind: str, inputs: list[str], scale: str, zero: str, settings: dict[str, Any]
    ) -> None:
        """Write a float node and quantize its output, unless `scale` is empty."""
        from onnx import helper

        (out,) = node.output[:1]
        name = f"{out}.float" if scale else out
        self.nodes.append(helper.make_node(kind, inputs, [name], name=node.name, **settings))
        if scale:
            name = self._clip_by_relu(name, zero)
            self.scales[out] = scale, zero
            self.nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [out], name=f"{out}.q"))

    def _clip_by_relu(self, name: str, zero: str) -> str:
        """Insert ReLU where codes begin at zero: the quantizer removed it, because rounding clips as well."""
        from onnx import helper

        point = self._value(zero) if zero else np.zeros(1, np.uint8)
        # A zero point at the least code: nothing below zero can be coded.
        if (point != np.iinfo(point.dtype).min).any() or self.nodes[-1].op_type == "Relu":
            return name
        self.nodes.append(helper.make_node("Relu", [name], [f"{name}.cut"], name=f"{name}.relu"))
        return f"{name}.cut"

    def _value(self, name: str) -> Any:
        value = self.graph.constants.get(name)
        if value is None:
            raise _UnsupportedError
        return value


def _dynamic_chain(graph: Graph, node: "onnx.NodeProto") -> "list[onnx.NodeProto] | None":
    """Return the quantizer of an integer product's input and the product that rescales its sums, or None."""
    source = graph.producers.get(node.input[0])
    cast = graph.only_reader(node.output[0])
    last = graph.only_reader(cast.output[0]) if cast is not None and cast.op_type == "Cast" else None
    if source is None or source.op_type != "DynamicQuantizeLinear" or last is None or last.op_type != "Mul":
        return None
    if node.input[1] not in graph.constants or _weight_scale(graph, cast, last, source) is None:
        return None
    return [source, last]


def _weight_scale(graph: Graph, cast: Any, last: Any, source: Any) -> Any:
    factor = next((name for name in last.input if name != cast.output[0]), "")
    scales = graph.producers.get(factor)
    if scales is None or scales.op_type != "Mul" or source.output[1] not in scales.input:
        return None
    name = next((name for name in scales.input if name != source.output[1]), "")
    return graph.constants.get(name)


def _float_layer(model: "onnx.ModelProto", graph: Graph, node: Any, chain: "list[onnx.NodeProto]") -> "onnx.NodeProto":
    from onnx import helper

    source, last = chain
    scale = _weight_scale(graph, graph.only_reader(node.output[0]), last, source)
    weight, zero = graph.constants[node.input[1]], graph.constants.get([*node.input, "", ""][3], np.zeros(1, np.int32))
    rows = [-1, *[1] * (weight.ndim - 1)] if node.op_type == "ConvInteger" else [-1]
    scale, zero = (array.reshape(rows) if array.size > 1 else array.reshape(-1)[0] for array in (scale, zero))
    values = (weight.astype(np.int32) - np.int32(zero)) * scale
    name = set_constant(model, f"{node.input[1]}.float", values.astype(np.float32))
    return helper.make_node(
        DYNAMIC[node.op_type], [source.input[0], name], list(last.output), name=node.name, **attributes(node)
    )
