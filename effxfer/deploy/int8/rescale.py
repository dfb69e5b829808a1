"""Widen weight scales that are too small for the layer's bias: those of dead channels.

The bias of a quantized layer is held in steps of the input's scale times the weights' scale. Of a channel whose weights
are nearly zero that product is next to nothing: the bias does not fit 32 bits, leaves no room for the sum of products,
or is divided by zero. Where all weights are zero, the quantizer takes the scale 1, and the bias is rounded to nothing.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.int8.recipes import HEAVY

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]
# Codes of a bias stay below 2^28, so that 32 bits hold the sum of 57,000 products beside it.
MAX_BIAS_CODE, FINE, TINY = 2.0**28, 2.0**24, 1e-30


def rescale(quantized: "onnx.ModelProto", prepared: "onnx.ModelProto") -> int:
    """Widen scales of weights until every bias has room and none is rounded away, in place.

    Args:
        quantized: Model with QDQ nodes.
        prepared: The float graph it was made from, with the same node names.

    Returns:
        Number of channels with a new scale.
    """
    before = {node.name: node for node in prepared.graph.node if node.op_type in HEAVY}
    producers = {name: node for node in quantized.graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in quantized.graph.initializer}
    exact = {tensor.name: tensor for tensor in prepared.graph.initializer}
    uses = Counter(name for node in quantized.graph.node for name in node.input)
    count = 0
    for node in quantized.graph.node:
        was = before.get(node.name)
        if was is not None and was.input[2:] and {was.input[1], was.input[2]} <= exact.keys():
            parts = [_dequantizer(name, producers, initializers, uses) for name in node.input[:3]]
            if all(parts):
                count += _widen(initializers, parts, _numbers(exact[was.input[1]]), _numbers(exact[was.input[2]]))
    return count


def required_scales(scale: Array, largest: Array, bias: Array, step: float) -> Array:
    """Return the scales that the weights need.

    Args:
        scale: `(O,)`, or `(1,)` for all channels together: what they have.
        largest: Largest absolute weight, of the same shape.
        bias: Largest absolute bias, of the same shape.
        step: The input's scale, positive.

    Returns:
        Of the same shape, positive; `scale` where it is large enough.
    """
    least = np.maximum(bias / MAX_BIAS_CODE, TINY) / step
    # TINY keeps a scale from 0 where weights and bias are both 0.
    wide = np.maximum(scale, least)
    # All weights round to 0 then, so the scale is free: 2^24 steps hold the bias as finely as float32 does.
    return np.where(largest < wide / 2, np.maximum(bias / FINE, TINY) / step, wide)


def _dequantizer(
    name: str, producers: "dict[str, onnx.NodeProto]", initializers: "dict[str, onnx.TensorProto]", uses: Counter[str]
) -> "onnx.NodeProto | None":
    """Return the node that dequantizes a tensor with a constant scale; None if other nodes share its constants."""
    node = producers.get(name)
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in initializers:
        return None
    shared = node.input[0] in initializers and (uses[name] > 1 or any(uses[source] > 1 for source in node.input[:2]))
    return None if shared else node


def _widen(initializers: "dict[str, onnx.TensorProto]", parts: "list[Any]", weight: Array, bias: Array) -> int:
    """Widen the scales of one layer where needed, and recode its weights and bias."""
    source, kernel, offset = parts
    step = float(_numbers(initializers[source.input[1]]).max())
    scale = _numbers(initializers[kernel.input[1]]).reshape(-1)
    if kernel.input[0] not in initializers or offset.input[0] not in initializers or not step > 0:
        return 0
    axis = next((a.i for a in kernel.attribute if a.name == "axis"), 1) % weight.ndim
    each = scale.size > 1
    largest = (
        np.abs(weight).max(axis=tuple(a for a in range(weight.ndim) if a != axis)) if each else np.abs(weight).max()
    )
    largest_bias = np.abs(bias) if each else np.abs(bias).max()
    new = required_scales(scale, np.reshape(largest, -1), np.reshape(largest_bias, -1), step).astype(np.float32)
    changed = new != scale.astype(np.float32)
    if not changed.any():
        return 0
    rows = [-1 if a == axis and each else 1 for a in range(weight.ndim)]
    _recode(initializers, kernel, np.rint(weight / new.astype(np.float64).reshape(rows)), changed.reshape(rows))
    # In float32 first, as the kernel multiplies the two scales.
    product = (np.float32(step) * new).astype(np.float64)
    _recode(initializers, offset, np.rint(bias / product), changed)
    _write(initializers[kernel.input[1]], new)
    _write(initializers[offset.input[1]], product.astype(np.float32))
    return int(changed.sum())


def _recode(
    initializers: "dict[str, onnx.TensorProto]", node: "onnx.NodeProto", codes: Array, changed: NDArray[np.bool_]
) -> None:
    """Replace some of the codes that a node dequantizes."""
    from onnx import numpy_helper

    stored = initializers[node.input[0]]
    old = numpy_helper.to_array(stored)
    zero = _numbers(initializers[node.input[2]]).reshape(-1)[0] if len(node.input) > 2 and node.input[2] else 0.0
    limits = np.iinfo(old.dtype)
    new = np.clip(codes + zero, limits.min, limits.max).astype(old.dtype)
    stored.CopyFrom(numpy_helper.from_array(np.where(changed, new, old), stored.name))


def _write(tensor: "onnx.TensorProto", values: NDArray[np.float32]) -> None:
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(values.reshape(tuple(tensor.dims)), tensor.name))


def _numbers(tensor: "onnx.TensorProto") -> Array:
    from onnx import numpy_helper

    values: Array = numpy_helper.to_array(tensor).astype(np.float64)
    return values
