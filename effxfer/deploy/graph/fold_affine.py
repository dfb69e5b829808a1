"""Fold what scales and shifts channels after a layer into the layer's weights.

That is BatchNormalization, or the multiplications and additions that it was exported as (Jacob et al. 2018, section
3.2, https://arxiv.org/abs/1712.05877).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.graph.graph import Graph, Rewrite, attributes, copy, put, replace_nodes

if TYPE_CHECKING:
    import onnx

LAYERS = ("Conv", "Gemm")
Array = NDArray[Any]


def fold(graph: Graph) -> Rewrite | None:
    """Fold per-channel scales and shifts with constant values into the layer before them; None if there are none."""
    model = copy(graph.model)
    folded: list[str] = []
    for node in model.graph.node:
        chain = _chain(graph, node) if node.op_type in LAYERS else []
        if chain:
            _absorb(model, node, graph.constants, chain)
            folded += [one.name for one, _ in chain]
    if not folded:
        return None
    kept = [node for node in model.graph.node if node.name not in folded]
    return Rewrite(model=replace_nodes(model, kept), nodes=tuple(folded))


def _chain(graph: Graph, layer: "onnx.NodeProto") -> "list[tuple[onnx.NodeProto, tuple[Array, Array]]]":
    """The nodes after a layer that scale and shift its channels, each with scale and shift `(C,)`."""
    weight = graph.constants.get(layer.input[1])
    biases = [name for name in layer.input[2:] if name]
    if weight is None or any(name not in graph.constants for name in biases):
        return []
    channels, found, tensor = _channels(layer, weight), [], layer.output[0]
    while (node := graph.only_reader(tensor)) is not None:
        step = affine(
            node, tensor, graph.constants, channels, trailing=weight.ndim - 2 if layer.op_type == "Conv" else 0
        )
        if step is None:
            break
        found.append((node, step))
        tensor = node.output[0]
    return found


def affine(
    node: "onnx.NodeProto", tensor: str, constants: Mapping[str, Array], channels: int, *, trailing: int
) -> tuple[Array, Array] | None:
    """Say how a node scales and shifts the channels of `tensor`; None if it does anything else.

    Args:
        node: One that reads the tensor.
        tensor: `(N, C)` followed by `trailing` axes.
        constants: By tensor.
        channels: C.
        trailing: Axes after the channels.

    Returns:
        Scale and shift, `(C,)` each.
    """
    others = [constants[name] for name in node.input if name in constants]
    if len(others) + 1 != len(node.input) or list(node.input).count(tensor) != 1:
        return None
    if node.op_type == "BatchNormalization":
        return _normalization(node, tensor, others)
    value = _per_channel(others[0], channels, trailing) if len(others) == 1 else None
    if value is None:
        return None
    one, none, first = np.ones(channels), np.zeros(channels), node.input[0] == tensor
    made = {"Mul": (value, none), "Add": (one, value), "Sub": (one, -value) if first else (-one, value)}
    if node.op_type == "Div" and first and value.all():
        return 1 / value, none
    return made.get(node.op_type)


def _normalization(node: "onnx.NodeProto", tensor: str, values: list[Array]) -> tuple[Array, Array] | None:
    about = attributes(node)
    if node.input[0] != tensor or len(values) < 4 or about.get("training_mode"):
        return None
    gamma, beta, mean, var = (np.asarray(value, np.float64) for value in values)
    scale = gamma / np.sqrt(var + about.get("epsilon", 1e-5))
    return scale, beta - mean * scale


def _per_channel(value: Array | None, channels: int, trailing: int) -> Array | None:
    """Bring a constant that differs by channel only into the form `(C,)`."""
    if value is None or not np.issubdtype(value.dtype, np.floating) or value.ndim > trailing + 2:
        return None
    full = value.reshape((1,) * (trailing + 2 - value.ndim) + value.shape)
    if full.size != full.shape[1] or full.shape[1] not in {1, channels}:
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (channels,))


def _channels(layer: "onnx.NodeProto", weight: Array) -> int:
    wide = layer.op_type == "Gemm" and not attributes(layer).get("transB")
    return int(weight.shape[1 if wide else 0])


def _absorb(
    model: "onnx.ModelProto",
    layer: "onnx.NodeProto",
    constants: Mapping[str, Array],
    chain: "list[tuple[onnx.NodeProto, tuple[Array, Array]]]",
) -> None:
    """Put a chain into a layer's weight and bias, and let the layer give the chain's output."""
    weight, about = constants[layer.input[1]], attributes(layer)
    scale, shift = np.ones(_channels(layer, weight)), np.zeros(_channels(layer, weight))
    for _, (by, plus) in chain:
        scale, shift = scale * by, shift * by + plus
    bias = constants[layer.input[2]].reshape(-1) if len(layer.input) > 2 and layer.input[2] else 0.0
    wide = layer.op_type == "Gemm" and not about.get("transB")
    new = weight * (scale if wide else scale.reshape(-1, *[1] * (weight.ndim - 1)))
    beta = about.get("beta", 1.0) if layer.op_type == "Gemm" else 1.0
    made = [put(model, f"{layer.name}.folded.weight", new.astype(weight.dtype))]
    made.append(put(model, f"{layer.name}.folded.bias", (bias * beta * scale + shift).astype(weight.dtype)))
    for attribute in layer.attribute:
        if attribute.name == "beta":
            attribute.f = 1.0
    layer.input[:] = [layer.input[0], *made]
    layer.output[0] = chain[-1][0].output[0]
