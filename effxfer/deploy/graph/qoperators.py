"""Files quantized with operators of their own (QOperator) or while they run (dynamic), in forms that can be compared.

A QOperator file becomes one with QDQ nodes, from which the doctor takes quantization out again or changes its type; a
dynamic one becomes float32 at once. Neither rounds as the file does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from effxfer.deploy.graph.graph import Graph, Rewrite, attributes, copy, named, put, replace_nodes

if TYPE_CHECKING:
    import onnx

BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
UNARY = {"QLinearGlobalAveragePool": "GlobalAveragePool", "QLinearSigmoid": "Sigmoid", "QLinearLeakyRelu": "LeakyRelu"}
LAYERS = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul", "QGemm": "Gemm"}
QLINEAR = {*BINARY, *UNARY, *LAYERS}
DYNAMIC = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
PASSING = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Relu"}
PER_CHANNEL_OPSET = 13


def kinds(graph: Graph) -> list[str]:
    """Name the quantized operators that a graph has, in alphabetical order."""
    return sorted({node.op_type for node in graph.nodes} & (QLINEAR | DYNAMIC.keys()))


def to_qdq(graph: Graph) -> Rewrite | None:
    """Write quantized operators as float ones between QDQ nodes; None if there are none, or one is not known well."""
    if graph.opset < PER_CHANNEL_OPSET or not any(node.op_type in QLINEAR for node in graph.nodes):
        return None
    work = _Work(Graph(copy(graph.model)))
    try:
        for node in work.graph.nodes:
            work.take(node)
    except _Unknown:
        return None
    model = named(replace_nodes(work.graph.model, work.nodes))
    return Rewrite(model=model, nodes=tuple(work.changed), exact=False)


def dynamic_to_float(graph: Graph) -> Rewrite | None:
    """Write products that are quantized while they run as float32 ones; None if there are none of the usual form."""
    model = copy(graph.model)
    replaced = {}
    for node in graph.nodes:
        chain = _chain(graph, node) if node.op_type in DYNAMIC else None
        if chain is not None:
            replaced[chain[-1].name] = node, chain
    if not replaced:
        return None
    nodes = [_float_layer(model, graph, *replaced[node.name]) if node.name in replaced else node
             for node in model.graph.node]  # fmt: skip
    model = _unread_gone(replace_nodes(model, nodes))
    return Rewrite(model=model, nodes=tuple(node.name for node, _ in replaced.values()), exact=False)


class _Unknown(Exception):  # noqa: N818
    """A scale that is computed, or a layout that is not the usual one."""


@dataclass
class _Work:
    """A graph that is written anew, node by node."""

    graph: Graph
    nodes: "list[onnx.NodeProto]" = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    scales: dict[str, tuple[str, str]] = field(default_factory=dict)

    def take(self, node: "onnx.NodeProto") -> None:
        """Write one node."""
        if attributes(node).get("channels_last"):
            raise _Unknown
        if node.op_type in QLINEAR:
            self.changed.append(node.name)
            handle: Callable[[Any], None] = self._layer if node.op_type in LAYERS else self._plain
            handle(node)
        elif node.op_type in PASSING and node.input[0] in self.scales:
            scale, zero = self.scales[node.input[0]]
            inputs = [self._float(node.input[0], scale, zero), *node.input[1:]]
            self._give(node, node.op_type, inputs, scale, zero, attributes(node))
        else:
            if node.op_type == "QuantizeLinear":
                self.scales[node.output[0]] = node.input[1], node.input[2]
            self.nodes.append(node)

    def _layer(self, node: "onnx.NodeProto") -> None:
        x, xs, xz, w, ws, wz, *rest = [*node.input, *[""] * 9][:9]
        output, bias = (rest[1:], rest[0]) if node.op_type == "QGemm" else (rest[:2], rest[2])
        about = {k: v for k, v in attributes(node).items() if k != "channels_last"}
        axis = {"QLinearConv": 0, "QGemm": 0 if about.get("transB") else 1}.get(node.op_type, -1)
        inputs = [self._float(x, xs, xz), self._float(w, ws, wz, axis)]
        if bias:
            inputs.append(self._dequantize(bias, self._step(bias, xs, ws), "", 0))
        scale, zero = [*output, "", ""][:2]
        self._give(node, LAYERS[node.op_type], inputs, scale, zero, about)

    def _plain(self, node: "onnx.NodeProto") -> None:
        two = node.op_type in BINARY
        inputs = [self._float(*node.input[place : place + 3]) for place in ((0, 3) if two else (0,))]
        kind = BINARY[node.op_type] if two else UNARY[node.op_type]
        about = {k: v for k, v in attributes(node).items() if k == "alpha"}
        scale, zero = [*node.input[6 if two else 3 :], ""][:2]
        self._give(node, kind, inputs, scale, zero, about)

    def _float(self, tensor: str, scale: str, zero: str, axis: int = 1) -> str:
        """Dequantize a tensor by a constant scale; give the name of the result."""
        self._value(scale)
        return self._dequantize(tensor, scale, zero, axis)

    def _dequantize(self, tensor: str, scale: str, zero: str, axis: int) -> str:
        from onnx import helper

        name = f"{tensor}.float.{len(self.nodes)}"
        inputs = [tensor, scale, zero] if zero else [tensor, scale]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}.dq", axis=axis))
        return name

    def _step(self, bias: str, source: str, weight: str) -> str:
        """Add the scale of a bias, and give its name: that of the input times that of the weights."""
        return put(self.graph.model, f"{bias}.step", self._value(source) * self._value(weight))

    def _give(
        self, node: "onnx.NodeProto", kind: str, inputs: list[str], scale: str, zero: str, about: dict[str, Any]
    ) -> None:
        """Write a float node, and quantize what it gives; one without a scale gives floats."""
        from onnx import helper

        (out,) = node.output[:1]
        name = f"{out}.float" if scale else out
        self.nodes.append(helper.make_node(kind, inputs, [name], name=node.name, **about))
        if scale:
            name = self._cut_off(name, zero)
            self.scales[out] = scale, zero
            self.nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [out], name=f"{out}.q"))

    def _cut_off(self, name: str, zero: str) -> str:
        """Put ReLU where codes begin at zero: the quantizer left it out, because rounding cuts off as well."""
        from onnx import helper

        point = self._value(zero) if zero else np.zeros(1, np.uint8)
        if (point != np.iinfo(point.dtype).min).any() or self.nodes[-1].op_type == "Relu":
            return name
        self.nodes.append(helper.make_node("Relu", [name], [f"{name}.cut"], name=f"{name}.relu"))
        return f"{name}.cut"

    def _value(self, name: str) -> Any:
        value = self.graph.constants.get(name)
        if value is None:
            raise _Unknown
        return value


def _chain(graph: Graph, node: "onnx.NodeProto") -> "list[onnx.NodeProto] | None":
    """Give what makes floats of an integer product: what quantizes its input, and the last product."""
    source = graph.producers.get(node.input[0])
    cast = graph.only_reader(node.output[0])
    last = graph.only_reader(cast.output[0]) if cast is not None and cast.op_type == "Cast" else None
    if source is None or source.op_type != "DynamicQuantizeLinear" or last is None or last.op_type != "Mul":
        return None
    if node.input[1] not in graph.constants or _weight_scale(graph, cast, last, source) is None:
        return None
    return [source, last]


def _weight_scale(graph: Graph, cast: Any, last: Any, source: Any) -> Any:
    other = next((name for name in last.input if name != cast.output[0]), "")
    scales = graph.producers.get(other)
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
    scale, zero = (one.reshape(rows) if one.size > 1 else one.reshape(-1)[0] for one in (scale, zero))
    values = (weight.astype(np.int32) - np.int32(zero)) * scale
    name = put(model, f"{node.input[1]}.float", values.astype(np.float32))
    return helper.make_node(
        DYNAMIC[node.op_type], [source.input[0], name], list(last.output), name=node.name, **attributes(node)
    )


def _unread_gone(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Take out nodes that nobody reads any more."""
    graph = Graph(model)
    read = set(graph.consumers) | graph.outputs
    kept = [node for node in graph.nodes if any(name in read for name in node.output)]
    return model if len(kept) == len(graph.nodes) else _unread_gone(replace_nodes(model, kept))
