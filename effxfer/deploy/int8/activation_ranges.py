"""Activation statistics of a float ONNX graph on images: largest value and mean per channel."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.int8.static import Feeds
from effxfer.runtime.session import open_session, session_options

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ActivationRange:
    """Statistics of one tensor over all images and positions.

    Attributes:
        largest: `(C,)`, the largest absolute value of each channel.
        mean: `(C,)`, its average.
    """

    largest: Array
    mean: Array


def measure_activations(model: "onnx.ModelProto", names: Iterable[str], feeds: Feeds) -> Mapping[str, ActivationRange]:
    """Run a graph on images and collect the statistics of some of its tensors.

    Args:
        model: Float32; it is not changed.
        names: Names of tensors inside it, `(N, C, ...)`, or `(..., C)` where they are the input of a matrix product.
        feeds: Images; at least one.

    Returns:
        By name; only float32 tensors of at least two axes.
    """
    session, axes = _session(model, dict.fromkeys(names))
    if not axes:
        return {}
    highs: dict[str, list[Array]] = {name: [] for name in axes}
    means: dict[str, list[Array]] = {name: [] for name in axes}
    counts = []
    for feed in feeds.batches():
        counts.append(len(next(iter(feed.values()))))
        for name, value in zip(axes, session.run(list(axes), feed), strict=True):
            flat = _by_channel(value, axes[name])
            highs[name].append(np.abs(flat).max(0).astype(np.float64))
            # A sum of millions of positions loses digits in float32.
            means[name].append(flat.mean(0, dtype=np.float64))
    return {
        name: ActivationRange(largest=np.max(highs[name], 0), mean=np.average(means[name], axis=0, weights=counts))
        for name in axes
    }


def _session(model: "onnx.ModelProto", names: Iterable[str]) -> tuple[Any, dict[str, int]]:
    """Open a graph with `names` as extra outputs; return the session and the channel axis of each."""
    import onnx

    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    axes = _channel_axes(model)
    available = {name for node in model.graph.node for name in node.output} | {i.name for i in model.graph.input}
    requested = {name: axes.get(name, 1) for name in names if name in available}
    outputs = {o.name for o in model.graph.output}
    wider.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in requested
        if name not in outputs
    )
    # One thread: sums in another order would change the last bits of the file.
    return open_session(wider.SerializeToString(), session_options(threads=1)), requested


def _channel_axes(model: "onnx.ModelProto") -> dict[str, int]:
    """Map inputs of matrix products to the last axis; all other tensors have channels along the second."""
    return {node.input[0]: -1 for node in model.graph.node if node.op_type in ("Gemm", "MatMul")}


def _by_channel(value: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    moved = np.moveaxis(value, axis, -1)
    return moved.reshape(-1, moved.shape[-1])
