"""Files of one layer with 8-bit codes and weights that saturate, or do not, for the tests of that arithmetic."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STEP = 4096.0
KINDS = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}
ORDER = {
    "ConvInteger": ("x", "w", "xz", "wz"),
    "MatMulInteger": ("x", "w", "xz", "wz"),
    "MatMulIntegerToFloat": ("x", "w", "one", "one", "xz", "wz"),
    "QGemm": ("x", "one", "xz", "w", "one", "wz", "", "step", "yz"),
    "QLinearConv": ("x", "one", "xz", "w", "one", "wz", "step", "yz"),
    "QLinearMatMul": ("x", "one", "xz", "w", "one", "wz", "step", "yz"),
}
OTHERS = ("MatMulIntegerToFloat", "QGemm")
WIDE = ("ConvInteger", "MatMulInteger")


def planted(op: str, weights: NDArray[Any], zero: Any, rank: int, **attributes: Any) -> bytes:
    """Make a file of one node; sums leave it as they are (`WIDE`, float) or in steps of 4096 around the middle code."""
    codes = KINDS[zero.dtype]
    constants = {
        "w": weights, "xz": zero, "wz": weights.dtype.type(128 if weights.dtype == np.uint8 else 0),
        "one": np.float32(1), "step": np.float32(STEP), "yz": zero.dtype.type(128 if zero.dtype == np.uint8 else 0),
    }  # fmt: skip
    domain = "com.microsoft" if op in OTHERS else ""
    output = TensorProto.INT32 if op in WIDE else TensorProto.FLOAT if op == "MatMulIntegerToFloat" else codes
    node = helper.make_node(op, ORDER[op], ["y"], name="planted", domain=domain, **attributes)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", codes, [None] * rank)],
        [helper.make_tensor_value_info("y", output, [None] * rank)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in ORDER[op]],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def run(content: bytes, codes: NDArray[Any], settings: Mapping[str, str] | None = None) -> NDArray[Any]:
    """Run a file as its users do."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    for name, value in (settings or {}).items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, {"x": codes})[0]


def rounded(sums: NDArray[Any], zero: Any) -> NDArray[Any]:
    """Bring sums into the steps in which a planted layer gives them."""
    limits = np.iinfo(zero.dtype)
    middle = 128 if zero.dtype == np.uint8 else 0
    return np.clip(np.rint(sums / STEP) + middle, limits.min, limits.max).astype(zero.dtype)


def chain() -> bytes:
    """Make a float classifier of positive weights: every activation is far from zero, so that its codes are large."""
    rng, constants, nodes, last = np.random.default_rng(0), [], [], "images"
    layers = {"stem": (8, 3, 3, 3), "depthwise": (8, 1, 3, 3), "pointwise": (12, 8, 1, 1), "grouped": (8, 6, 3, 3)}
    for name, shape in layers.items():
        groups = 1 if name in ("stem", "pointwise") else 12 // shape[1] if name == "grouped" else 8
        constants.append(numpy_helper.from_array(rng.uniform(0.5, 1, shape).astype(np.float32), f"{name}.w"))
        conv = helper.make_node("Conv", [last, f"{name}.w"], [f"{name}.sum"], name=name, group=groups)
        nodes += [conv, helper.make_node("Relu", [f"{name}.sum"], [name], name=f"{name}.relu")]
        last = name
    constants.append(numpy_helper.from_array(rng.uniform(0.5, 1, (5, 8)).astype(np.float32), "head.w"))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "head.w"], ["logits"], name="head", transB=1))
    graph = helper.make_graph(
        nodes, "chain",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
