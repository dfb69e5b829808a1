"""Read the features of an exported classifier: what its last layer multiplies.

Shape legend: N examples, D features.
"""

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.graph.graph import Graph, open_graph
from effxfer.errors import ModelFileError
from effxfer.runtime.model import Model
from effxfer.runtime.rows import Rows, map_batches
from effxfer.runtime.session import open_session

if TYPE_CHECKING:
    import onnx

PRODUCTS = frozenset({"Gemm", "MatMul", "MatMulInteger", "QGemm", "QLinearMatMul"})
QUANTIZES = frozenset({"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})


def head_features(file: Path, rows: Rows, batch: int = 64) -> NDArray[np.float32]:
    """Compute what the last layer of an exported classifier multiplies.

    Of an int8 file these are the features as the quantized body makes them, before the last layer quantizes them.

    Args:
        file: A file that `export` wrote, with one vector of logits for each example.
        rows: Decoded examples in the file's input shape; at least one.
        batch: Examples per call.

    Returns:
        float32 `(N, D)`.

    Raises:
        ModelFileError: If the graph does not end in a layer that multiplies one vector for each example.
    """
    from onnx import helper

    model, graph = Model(file), open_graph(file)
    name = features_tensor(graph)
    if name is None:
        raise ModelFileError(f"{file} does not end in a linear layer", "give a classifier that `export` wrote")
    graph.model.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = open_session(graph.model.SerializeToString())

    def run(chunk: Rows) -> NDArray[np.float32]:
        features: NDArray[np.float32] = session.run([name], {model.input_name: model.input.feed(chunk)})[0]
        return features

    probe = run(rows[:1])
    if probe.ndim != 2:
        raise ModelFileError(f"the last layer of {file} multiplies {probe.ndim - 1} axes of an example", "give another")
    return map_batches(rows, batch, run, probe.shape[1])


def features_tensor(graph: Graph) -> str | None:
    """Return the tensor that the last matrix product before the first output reads; None if there is no product."""
    waiting, visited = deque([graph.model.graph.output[0].name]), set[str]()
    while waiting:
        node = graph.producers.get(waiting.popleft())
        if node is None or node.name in visited:
            continue
        visited.add(node.name)
        if node.op_type in PRODUCTS:
            return _before_quantization(graph, node)
        waiting.extend(node.input)
    return None


def _before_quantization(graph: Graph, product: "onnx.NodeProto") -> str:
    name: str = product.input[0]
    while (node := graph.producers.get(name)) is not None and node.op_type in QUANTIZES:
        name = node.input[0]
    return name
