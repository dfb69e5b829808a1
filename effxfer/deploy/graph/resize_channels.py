"""Give the channels of an ONNX graph other numbers without changing what it computes.

Wider by channels of zeros, or narrower by channels that are zero anyway.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.benchmark.layer_table.interpolation import UNIT
from effxfer.deploy.graph.channel_groups import Array, Group, Shapes, Slice, channel_groups
from effxfer.deploy.graph.graph import Graph, Rewrite, copy, put, replace_nodes

if TYPE_CHECKING:
    import onnx


def widen(graph: Graph, shapes: Shapes, unit: int = UNIT) -> Rewrite | None:
    """Fill up numbers of channels to multiples of `unit` with channels of zeros; None if there is nothing to fill up.

    Args:
        graph: The graph.
        shapes: Of its tensors, as `infer` gives them.
        unit: The multiple; fewer channels than that are left alone.
    """
    keep = {}
    groups = channel_groups(graph, shapes)
    for number, group in enumerate(groups):
        if not group.fixed and group.size > unit and group.size % unit:
            keep[number] = np.concatenate([np.arange(group.size), np.full(-group.size % unit, -1)])
    return _rebuilt(graph, groups, keep)


def drop_dead(graph: Graph, shapes: Shapes, unit: int = UNIT) -> Rewrite | None:
    """Remove channels that are zero for every input, or that nobody reads; None if there are none.

    Args:
        graph: The graph.
        shapes: Of its tensors, as `infer` gives them.
        unit: A number of channels that is a multiple of this stays one, and keeps some dead channels for that: others
            take longer. 1 removes all.
    """
    keep = {}
    groups = channel_groups(graph, shapes)
    for number, group in enumerate(groups):
        dead = np.zeros(0, bool) if group.fixed else _dead(graph, group)
        alive = int((~dead).sum())
        spare = -alive % unit if group.size % unit == 0 else 0
        dead[np.flatnonzero(dead)[:spare]] = False
        if dead.any() and alive:
            keep[number] = np.flatnonzero(~dead)
    return _rebuilt(graph, groups, keep)


def infer(graph: Graph, feed: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Infer the shapes of all tensors for the shapes of a feed; those that cannot be inferred are missing."""
    from onnx import shape_inference

    model = copy(graph.model)
    for given in model.graph.input:
        if given.name in feed:
            for axis, size in zip(given.type.tensor_type.shape.dim, feed[given.name].shape, strict=False):
                axis.dim_value = size
    del model.graph.value_info[:]
    for made in model.graph.output:
        made.type.tensor_type.ClearField("shape")
    try:
        known = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # shape inference raises anything; without shapes nothing is widened or dropped
        return {}
    found = {name: value.shape for name, value in graph.constants.items()}
    for value in (*known.value_info, *known.input, *known.output):
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if sizes and all(sizes):
            found[value.name] = tuple(sizes)
    return found


def _dead(graph: Graph, group: Group) -> NDArray[np.bool_]:
    """Which channels are zero for every input, or read by nobody."""

    def zero(role: str) -> NDArray[np.bool_]:
        chosen = [one for one in group.slices if one.role == role]
        flags = [one.zero if one.zero is not None else _empty(graph.constants[one.name], one.axis) for one in chosen]
        return np.asarray(np.logical_and.reduce(flags)) if flags else np.zeros(group.size, bool)

    written = zero("write") if group.passes_zero else np.zeros(group.size, bool)
    return np.asarray(written | zero("read"))


def _empty(value: Array, axis: int) -> NDArray[np.bool_]:
    return np.asarray(~value.any(axis=tuple(other for other in range(value.ndim) if other != axis)))


def _rebuilt(graph: Graph, groups: list[Group], keep: Mapping[int, Array]) -> Rewrite | None:
    """Take the channels that each group keeps, -1 being a new one of zeros."""
    if not keep:
        return None
    model, values = copy(graph.model), dict[str, Array]()
    size: dict[str, int] = {}
    for number, index in keep.items():
        for one in groups[number].slices:
            values[one.name] = _taken(values.get(one.name, graph.constants[one.name]), one, index)
        size |= dict.fromkeys(groups[number].depthwise, len(index))
    for name, value in values.items():
        put(model, name, value)
    _restate(model, size, {name for number in keep for name in groups[number].flattened})
    nodes = [node for node in model.graph.node if node.op_type != "Constant" or node.output[0] not in values]
    layers = {name for number in keep for name in groups[number].layers}
    return Rewrite(model=replace_nodes(model, nodes), nodes=tuple(sorted(layers)))


def _restate(model: "onnx.ModelProto", size: Mapping[str, int], flattened: Collection[str]) -> None:
    """Bring numbers of groups, and reshapes that state channels, in line."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "group" and node.name in size:
                attribute.i = size[node.name]
        if node.name in flattened:
            node.op_type = "Flatten"
            del node.input[1:], node.attribute[:]


def _taken(value: Array, one: Slice, index: Array) -> Array:
    filler = np.full((*value.shape[: one.axis], 1, *value.shape[one.axis + 1 :]), one.filler, value.dtype)
    longer = np.concatenate([value, filler], axis=one.axis)
    return longer.take(index, axis=one.axis)
