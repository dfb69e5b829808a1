"""Bias correction: compensate in the bias for the shift of a layer's mean output by rounded weights.

Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2: with the weights' error E and inputs x, the shift of
output o is the sum of E[o, c] times the mean of x[c]. That mean is measured on training images. Depthwise layers
need it most: with 9 weights per output, errors do not average out.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.int8.activation_ranges import measure_activations
from effxfer.deploy.int8.recipes import HEAVY
from effxfer.deploy.int8.static import Feeds

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]


def correct_biases(quantized: "onnx.ModelProto", prepared: "onnx.ModelProto", feeds: Feeds) -> int:
    """Correct the biases for the mean error of rounded weights, in place.

    Args:
        quantized: Model with QDQ nodes; layers without a bias, or in float, are unchanged.
        prepared: The float graph it was made from, with the same node names.
        feeds: Training images.

    Returns:
        How many biases were changed.
    """
    before = {node.name: node for node in prepared.graph.node if node.op_type in HEAVY}
    # Without a bias there is nowhere to put the correction.
    layers = [(node, before[node.name]) for node in quantized.graph.node if node.name in before and node.input[2:]]
    statistics = measure_activations(prepared, (was.input[0] for _, was in layers), feeds)
    producers = {name: node for node in quantized.graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in quantized.graph.initializer}
    exact = {tensor.name: tensor for tensor in prepared.graph.initializer}
    count = 0
    for node, was in layers:
        source = producers.get(node.input[1])
        if source is None or was.input[0] not in statistics or was.input[1] not in exact:
            continue
        error = _dequantize(initializers, source) - _numbers(exact[was.input[1]])
        count += _subtract_shift(
            initializers, producers, node.input[2], shift(error, statistics[was.input[0]].mean, node)
        )
    return count


def shift(error: Array, mean: Array, node: "onnx.NodeProto") -> Array:
    """Return the mean change of each output, `(O,)`.

    Args:
        error: Of a kernel `(O, C / groups, ...)`, or of a matrix `(C, O)`, or `(O, C)` if the product transposes it.
        mean: `(C,)`, of the layer's inputs.
        node: The layer.
    """
    attributes = {a.name: a.i for a in node.attribute if a.name in ("group", "transB")}
    if node.op_type != "Conv":
        result: Array = error @ mean if attributes.get("transB") else mean @ error
        return result
    kernels = error.reshape(*error.shape[:2], -1).sum(2)
    groups = attributes.get("group", 1)
    parts = zip(np.split(kernels, groups), np.split(mean, groups), strict=True)
    return np.concatenate([kernel @ part for kernel, part in parts])


def _subtract_shift(
    initializers: dict[str, "onnx.TensorProto"], producers: dict[str, "onnx.NodeProto"], name: str, change: Array
) -> bool:
    """Subtract from a bias, float or 32-bit integers with a scale; return whether that was possible."""
    from onnx import numpy_helper

    source = producers.get(name)
    stored = source.input[0] if source is not None and source.op_type == "DequantizeLinear" else name
    if stored not in initializers:
        return False
    values = numpy_helper.to_array(initializers[stored])
    step = _numbers(initializers[source.input[1]]) if source is not None else np.ones(1)
    # Dead channels may have a scale of 0.
    if not np.isfinite(change).all() or not (step > 0).all():
        return False
    moved = values.astype(np.float64) - (change if source is None else np.rint(change / step))
    if source is not None:
        # 32 bits, as the kernel adds it.
        moved = moved.clip(np.iinfo(values.dtype).min, np.iinfo(values.dtype).max)
    initializers[stored].CopyFrom(numpy_helper.from_array(moved.astype(values.dtype), stored))
    return True


def _dequantize(initializers: dict[str, "onnx.TensorProto"], node: "onnx.NodeProto") -> Array:
    """Return the values of a DequantizeLinear node with a constant input."""
    codes, scale, zero = (_numbers(initializers[name]) for name in node.input)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [-1 if a == axis % codes.ndim else 1 for a in range(codes.ndim)] if scale.size > 1 else [1] * codes.ndim
    return (codes - zero.reshape(shape)) * scale.reshape(shape)


def _numbers(tensor: "onnx.TensorProto") -> Array:
    from onnx import numpy_helper

    values: Array = numpy_helper.to_array(tensor).astype(np.float64)
    return values
