"""Small ONNX files made by hand, so that every count is known."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def linear(
    file: Path, width: int = 4, classes: int = 3, zeros: int = 0, sidecar: str = "", batch: str | int = "batch"
) -> Path:
    """Write `y = x @ W + b` with `width * classes + classes` parameters, the first `zeros` of W being zero."""
    rng = np.random.default_rng(0)
    weight = rng.uniform(1, 2, (width, classes)).astype(np.float32)
    weight.reshape(-1)[:zeros] = 0
    tensors = [numpy_helper.from_array(weight, "W"), numpy_helper.from_array(np.ones(classes, np.float32), "b")]
    return save(
        file,
        [helper.make_node("MatMul", ["x", "W"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])],
        tensors,
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width]),
        sidecar,
    )


def photo(file: Path, size_stated: int | None = None) -> Path:
    """Write a model that takes uint8 photographs of any size, `(batch, height, width, 3)`."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["y"], keepdims=0),
    ]
    value = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])
    extra = {"preprocess": f'{{"size": {size_stated}}}'} if size_stated else {}
    return save(file, nodes, [numpy_helper.from_array(np.array([1, 2], np.int64), "axes")], value, metadata=extra)


def save(file, nodes, tensors, value, sidecar="", metadata=None):
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [value], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    if sidecar:
        onnx.save(model, file, save_as_external_data=True, location=sidecar, size_threshold=0)
    else:
        onnx.save(model, file)
    return file
