"""Cross-layer equalization: scale channels between neighbouring layers so that all use the same range.

Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.1. ReLU commutes with a positive scale, so what one
convolution divides the next one can multiply, and the network answers as before. Their ranges are those of weights;
here weights have a scale per channel anyway, so the range that matters is that of the activations in between, which
share one. ReLU6 does not commute: see `equalize`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.int8.activation_ranges import measure_activations
from effxfer.deploy.int8.static import Feeds

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]
# Chosen: ReLU6 cuts a channel off only beyond twice what it reached on the calibration images.
HEADROOM = 2.0
# 64: chosen; six of the eight bits, so that a nearly dead channel is not blown up to the full range.
LARGEST, TINY = 64.0, 1e-12


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two convolutions with at most an activation between them.

    Attributes:
        first: Makes the channels.
        second: Reads them; nothing else does.
        between: The tensor that `second` reads.
        bound: Upper limit of the activation, such as 6; infinite for ReLU or none.
    """

    first: "onnx.NodeProto"
    second: "onnx.NodeProto"
    between: str
    bound: float


def equalize(model: "onnx.ModelProto", feeds: Feeds, *, sweeps: int = 2) -> int:
    """Scale channels between neighbouring convolutions, in place.

    With ReLU, or no activation, the network's answers do not change but for rounding. ReLU6 cuts every channel off at
    the same value, so a scaled channel is cut off elsewhere. A channel that reaches the cut on any image stays as it
    is; another is never scaled so far that the cut comes within twice its largest value. So answers do not change
    on these images, and on others only where a channel exceeds that.

    Args:
        model: Float32, with BatchNorm folded into its convolutions.
        feeds: Training images.
        sweeps: Passes over all pairs; a layer has a neighbour on either side.

    Returns:
        How many pairs were scaled; 0 if the graph has none.
    """
    matches = find_pairs(model)
    if not matches:
        return 0
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    # Measured anew in each: a scaled channel changes what the next pair sees.
    for _ in range(sweeps):
        statistics = measure_activations(model, (pair.between for pair in matches), feeds)
        for pair in matches:
            kernel = _read(initializers[pair.second.input[1]])
            divisor = channel_divisors(statistics[pair.between].largest, reach(kernel, pair.second), pair.bound)
            _apply(initializers, pair, divisor)
    return len(matches)


def channel_divisors(high: Array, weight: Array | None, bound: float = np.inf) -> Array:
    """Return the divisor of each channel.

    The largest channel keeps its range. Where the next layer has a scale per channel of its own (depthwise), all get
    that range; elsewhere, half of the way in the logarithm is left to the weights that read the channel.

    Args:
        high: `(C,)`, the largest absolute value of each channel.
        weight: `(C,)`, the largest weight that reads each channel; None if that does not matter.
        bound: Upper bound of the activation.

    Returns:
        `(C,)`, positive; 1 for channels that are always zero, or reach the bound.
    """
    high = np.where(np.isfinite(high), high, 0)
    # Below the cut by more than rounding: a channel at the cut cannot be scaled.
    alive = (high > TINY) & (high < bound * (1 - 1e-6))
    alive &= True if weight is None else weight > TINY
    if not alive.any():
        return np.ones_like(high)
    divisor = high / high.max() if weight is None else np.sqrt(high / np.where(weight > TINY, weight, 1))
    top = divisor[high.argmax()] or 1.0
    divisor = np.clip(divisor / top, 1 / LARGEST, LARGEST)
    least = high / high.max() * (HEADROOM if np.isfinite(bound) else 1.0)
    return np.where(alive, np.maximum(divisor, np.minimum(least, 1.0)), 1.0)


def find_pairs(model: "onnx.ModelProto") -> list[Pair]:
    """Find the pairs of convolutions that can be equalized."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input) + Counter(o.name for o in graph.output)
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input if name in initializers)
    matches = []
    for second in graph.node:
        pair = _pair(second, producers, readers, initializers) if second.op_type == "Conv" else None
        if pair and all(
            uses[n] == 1 and n in initializers for c in (pair.first, pair.second) for n in c.input[1:] if n
        ):
            matches.append(pair)
    return matches


def reach(kernel: Array, second: "onnx.NodeProto") -> Array | None:
    """Return the largest weight that reads each channel, `(C,)`; None for a depthwise kernel."""
    return None if _groups(second) > 1 else np.abs(kernel).max(axis=tuple(a for a in range(kernel.ndim) if a != 1))


def _pair(
    second: "onnx.NodeProto",
    producers: dict[str, "onnx.NodeProto"],
    readers: Counter[str],
    initializers: dict[str, "onnx.TensorProto"],
) -> Pair | None:
    name, bound, node = second.input[0], np.inf, producers.get(second.input[0])
    if node is not None and node.op_type in ("Relu", "Clip"):
        limit = _bound(node, initializers)
        if limit is None or readers[name] != 1:
            return None
        name, bound, node = node.input[0], limit, producers.get(node.input[0])
    if node is None or node.op_type != "Conv" or readers[name] != 1 or second.input[1] not in initializers:
        return None
    channels, kernel = initializers[node.input[1]].dims[0], initializers[second.input[1]].dims
    if _groups(second) not in (1, channels) or (_groups(second) == 1 and kernel[1] != channels):
        return None
    return Pair(first=node, second=second, between=second.input[0], bound=float(bound))


def _bound(node: "onnx.NodeProto", initializers: dict[str, "onnx.TensorProto"]) -> float | None:
    """Return the upper limit of an activation; None if it is not zero below zero."""
    if node.op_type == "Relu":
        return np.inf
    limits = [
        float(_read(initializers[name]).item()) if name in initializers else None
        for name in [*node.input[1:], "", ""][:2]
    ]
    if limits[0] != 0:
        return None
    return np.inf if limits[1] is None and not node.input[2:] else limits[1]


def _apply(initializers: dict[str, "onnx.TensorProto"], pair: Pair, divisor: Array) -> None:
    for name in pair.first.input[1:]:
        values = _read(initializers[name])
        _write(initializers[name], values / divisor.reshape(-1, *[1] * (values.ndim - 1)))
    kernel = _read(initializers[pair.second.input[1]])
    if _groups(pair.second) == 1:
        _write(initializers[pair.second.input[1]], kernel * divisor.reshape(1, -1, *[1] * (kernel.ndim - 2)))
    else:
        repeated = np.repeat(divisor, len(kernel) // len(divisor))
        _write(initializers[pair.second.input[1]], kernel * repeated.reshape(-1, *[1] * (kernel.ndim - 1)))


def _groups(node: "onnx.NodeProto") -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _read(tensor: "onnx.TensorProto") -> Array:
    from onnx import numpy_helper

    values: Array = numpy_helper.to_array(tensor).astype(np.float64)
    return values


def _write(tensor: "onnx.TensorProto", values: Array) -> None:
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
