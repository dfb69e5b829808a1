"""What flows through a float ONNX graph on images: per channel, how large it gets and what it is on average."""

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
class Seen:
    """One tensor over all images and positions.

    Attributes:
        largest: `(C,)`, the largest absolute value of each channel.
        mean: `(C,)`, its average.
    """

    largest: Array
    mean: Array


def observe(model: "onnx.ModelProto", names: Iterable[str], feeds: Feeds) -> Mapping[str, Seen]:
    """Run a graph over images and sum up some of its tensors.

    Args:
        model: Float32; it is not changed.
        names: Of tensors inside it, `(N, C, ...)`, or `(..., C)` where they are the input of a matrix product.
        feeds: Images; at least one.

    Returns:
        By name; tensors that are no float32 of at least two axes are left out.
    """
    session, wanted = _session(model, dict.fromkeys(names))
    if not wanted:
        return {}
    highs: dict[str, list[Array]] = {name: [] for name in wanted}
    means: dict[str, list[Array]] = {name: [] for name in wanted}
    counts = []
    for feed in feeds.batches():
        counts.append(len(next(iter(feed.values()))))
        for name, value in zip(wanted, session.run(list(wanted), feed), strict=True):
            flat = _by_channel(value, wanted[name])
            highs[name].append(np.abs(flat).max(0).astype(np.float64))
            means[name].append(flat.mean(0, dtype=np.float64))
    return {
        name: Seen(largest=np.max(highs[name], 0), mean=np.average(means[name], axis=0, weights=counts))
        for name in wanted
    }


def _session(model: "onnx.ModelProto", names: Iterable[str]) -> tuple[Any, dict[str, int]]:
    """Open a graph that gives `names` as well; give the session, and the axis of channels of each."""
    import onnx

    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    axes = _channel_axes(model)
    there = {name for node in model.graph.node for name in node.output} | {i.name for i in model.graph.input}
    wanted = {name: axes.get(name, 1) for name in names if name in there}
    outputs = {o.name for o in model.graph.output}
    wider.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted if name not in outputs
    )
    return open_session(wider.SerializeToString(), session_options(threads=1)), wanted


def _channel_axes(model: "onnx.ModelProto") -> dict[str, int]:
    """Matrix products read channels along the last axis, all others along the second."""
    return {node.input[0]: -1 for node in model.graph.node if node.op_type in ("Gemm", "MatMul")}


def _by_channel(value: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    moved = np.moveaxis(value, axis, -1)
    return moved.reshape(-1, moved.shape[-1])
