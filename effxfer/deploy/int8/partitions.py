"""The blocks of a graph that may be quantized or not: stretches between tensors that everything flows through."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from effxfer.deploy.settings import HEAVY

if TYPE_CHECKING:
    import onnx


def blocks(graph: "onnx.GraphProto", most: int = 12) -> list[tuple[str, ...]]:
    """Split a graph into blocks of about equal work.

    A block ends where a single tensor leads on, such as after a residual addition; neighbours are joined, the
    pair with the least work first, until each has a convolution or matrix product and there are at most `most`.

    Args:
        graph: In topological order, with inferred shapes.
        most: Blocks, at least 1.

    Returns:
        Names of the nodes of each block, in order; all nodes are in one.
    """
    ends = [*bottlenecks(graph), len(graph.node) - 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    parts = [list(range(a, b + 1)) for a, b in zip(starts, ends, strict=True) if a <= b]
    cost = work(graph)
    while len(parts) > 1 and (len(parts) > most or not all(sum(cost[i] for i in part) for part in parts)):
        totals = [sum(cost[i] for i in part) for part in parts]
        empty = [i for i in range(len(parts) - 1) if not totals[i] or not totals[i + 1]]
        at = min(empty or range(len(parts) - 1), key=lambda i: totals[i] + totals[i + 1])
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [tuple(graph.node[i].name for i in part) for part in parts]


def bottlenecks(graph: "onnx.GraphProto") -> list[int]:
    """Find the nodes after which a single tensor leads on to the rest; tensors of shapes do not count."""
    held = {tensor.name for tensor in graph.initializer}
    sizes = _of_sizes(graph)
    last = {name: i for i, node in enumerate(graph.node) for name in node.input if name not in held | sizes}
    last |= {output.name: len(graph.node) for output in graph.output}
    live, found = {i.name for i in graph.input if i.name in last}, []
    for i, node in enumerate(graph.node):
        live = {name for name in live.union(node.output) if last.get(name, -1) > i}
        if len(live) == 1 and i < len(graph.node) - 1:
            found.append(i)
    return found


def work(graph: "onnx.GraphProto") -> list[float]:
    """Estimate the multiply-adds of each node for one image; 0 for all but convolutions and matrix products."""
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    shapes = {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    return [_work(node, weights, shapes) if node.op_type in HEAVY else 0.0 for node in graph.node]


def _work(node: "onnx.NodeProto", weights: dict[str, list[int]], shapes: dict[str, list[int]]) -> float:
    weight = weights.get(node.input[1]) or shapes.get(node.input[1], [1])
    out: Sequence[int] = shapes.get(node.output[0], [1])
    positions = prod(out[2:]) if node.op_type == "Conv" else prod(out[1:-1])
    return float(prod(weight[-2:] if node.op_type == "MatMul" else weight) * positions)


def _of_sizes(graph: "onnx.GraphProto") -> set[str]:
    """Name the tensors that are computed from shapes alone."""
    found: set[str] = set()
    held = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Shape" or (found.intersection(node.input) and found | held >= {*node.input} - {""}):
            found.update(node.output)
    return found
