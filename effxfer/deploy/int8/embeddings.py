"""Embedding tables as int8 rows with a float32 scale each, in plain ONNX: `Gather`, `Cast`, `Gather`, `Mul`.

Dynamic quantization leaves embeddings in float32, and they are half of the weights of a small BERT. Q8BERT (Zafrir et
al., 2019, https://arxiv.org/abs/1910.06188) quantizes them too. Rows have a scale each, because the norms of rare and
of frequent words differ. Only the rows of a text are converted, so a look-up costs next to nothing.
"""

from collections.abc import Collection
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.int8.dynamic import round_in_blocks

if TYPE_CHECKING:
    import onnx

# Chosen: below, such as two rows of segments, four nodes in place of one are not worth the bytes.
SMALLEST_TABLE = 16_384


def round_tables(
    model: "onnx.ModelProto", float_nodes: Collection[str] = (), smallest: int = SMALLEST_TABLE
) -> list[str]:
    """Store embedding tables as int8 rows, in place.

    Args:
        model: Float32, or quantized already; its tables are float32.
        float_nodes: Look-ups that stay in float32, by the names of their nodes.
        smallest: Numbers that a table has at least; smaller ones stay.

    Returns:
        The names of the tables that were rounded.
    """
    from onnx import numpy_helper

    names = embedding_tables(model.graph, float_nodes, smallest)
    for tensor in [t for t in model.graph.initializer if t.name in names]:
        codes, scale = round_rows(numpy_helper.to_array(tensor))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{tensor.name}_scale"))
        tensor.CopyFrom(numpy_helper.from_array(codes, f"{tensor.name}_quantized"))
    nodes = [part for node in model.graph.node for part in (_look_up(node) if _reads(node, names) else [node])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return names


def round_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each row of `(V, D)` to 8 bits; return codes `(V, D)` and scales `(V, 1)`.

    A row's largest number is 127 of its scales, so that an error is half a scale at most.
    """
    codes, scale = round_in_blocks(table.T, block=table.shape[1])
    return np.ascontiguousarray(codes.T), np.ascontiguousarray(scale.T)


def embedding_tables(
    graph: "onnx.GraphProto", float_nodes: Collection[str] = (), smallest: int = SMALLEST_TABLE
) -> list[str]:
    """List the float32 tables `(V, D)` that are only looked up by rows."""
    import onnx

    tables = {
        tensor.name: prod(tensor.dims)
        for tensor in graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT
    }
    # A matrix product with a tied table, or an output, needs it as it is.
    refused = {name for node in graph.node for name in _other_reads(node, float_nodes)}
    refused |= {value.name for value in (*graph.output, *graph.input)}
    read = dict.fromkeys(node.input[0] for node in graph.node if _reads(node, tables))
    return [name for name in read if name not in refused and tables[name] >= smallest]


def _other_reads(node: "onnx.NodeProto", float_nodes: Collection[str]) -> list[str]:
    """Return what a node reads otherwise than as the table of a look-up by rows."""
    by_rows = node.op_type == "Gather" and node.name not in float_nodes and not _axis(node)
    return list(node.input[1 if by_rows else 0 :])


def _reads(node: "onnx.NodeProto", tables: Collection[str]) -> bool:
    return node.op_type == "Gather" and node.input[0] in tables


def _axis(node: "onnx.NodeProto") -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def _look_up(node: "onnx.NodeProto") -> "list[onnx.NodeProto]":
    """Return the nodes that look up and dequantize the rows that a `Gather` looked up."""
    import onnx

    (table, ids), (rows,) = node.input, node.output
    make, name = onnx.helper.make_node, node.name or f"{rows}_rows"
    codes, floats, scale = f"{rows}_codes", f"{rows}_floats", f"{rows}_scale"
    return [
        make("Gather", [f"{table}_quantized", ids], [codes], name=name),
        make("Cast", [codes], [floats], name=f"{name}_cast", to=onnx.TensorProto.FLOAT),
        make("Gather", [f"{table}_scale", ids], [scale], name=f"{name}_scale"),
        make("Mul", [floats, scale], [rows], name=f"{name}_dequantized"),
    ]
