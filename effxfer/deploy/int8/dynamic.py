"""int8 without calibration images, for networks of matrix products: dynamic or weight-only quantization.

Both are plain ONNX. A matrix product whose inputs are quantized while it runs is `MatMulInteger`. Weights alone are
`DequantizeLinear` in blocks along the axis that is summed over, which ONNX Runtime fuses with the product
(https://github.com/microsoft/onnxruntime/pull/27614).

The range of an input is that of the whole batch: dynamic int8 of a text depends on its neighbours. Of MiniLM-L6 on 256
sentences (SST-2), features alone and in batches of 32 differ as much as either from float32 (cosine 0.97 at least).
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.export.onnx import load
from effxfer.deploy.int8.recipes import Recipe
from effxfer.deploy.int8.static import silence_quantizer, wrap_quantizer_errors
from effxfer.errors import ModelFileError

if TYPE_CHECKING:
    import onnx

# 32: a float32 scale for 32 bytes adds an eighth of the size; larger blocks round more coarsely.
BLOCK, TINY = 32, 1e-30
# The first with `block_size`, and the IR version of its release (ONNX 1.16).
BLOCKED_OPSET, BLOCKED_IR = 21, 10


def write_dynamic(prepared: Path, out: Path, recipe: Recipe, float_nodes: Collection[str] = ()) -> Path:
    """Quantize the weights of matrix products; ranges of their inputs are found while they run.

    Args:
        prepared: File that `prepare` wrote.
        out: Scratch file for the candidate, without metadata.
        recipe: A recipe of kind `dynamic`.
        float_nodes: Nodes that stay in float32.

    Raises:
        ModelFileError: If there is no matrix product with weights, or the quantizer refuses the graph.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _require_weights(load(prepared), float_nodes)
    with silence_quantizer(), wrap_quantizer_errors(prepared):
        quantize_dynamic(
            prepared,
            out,
            # Convolutions would become ConvInteger, which is slower than float32 (ResNet-18: p50 twice as long, guide).
            op_types_to_quantize=["MatMul"],
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            weight_type={"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}[recipe.weight],
            nodes_to_exclude=sorted(float_nodes),
            # Symmetric, so that zeros stay zeros; products of two activations (attention) have no weights to store.
            extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True},
        )
    return out


def write_weights(prepared: Path, out: Path, float_nodes: Collection[str] = ()) -> Path:
    """Store the weights of matrix products as int8, in blocks of 32 with a scale each; the products are in float32.

    Args:
        prepared: File that `prepare` wrote.
        out: Scratch file for the candidate, without metadata.
        float_nodes: Nodes that stay in float32.

    Raises:
        ModelFileError: If there is no matrix product with weights.
    """
    import onnx
    from onnx import numpy_helper

    model = load(prepared)
    _require_weights(model, float_nodes, BLOCK)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    stored = {name: numpy_helper.to_array(initializers[name]) for name in _product_weights(model, float_nodes, BLOCK)}
    for name, weight in stored.items():
        codes, scale = round_in_blocks(weight)
        initializers[name].CopyFrom(numpy_helper.from_array(codes, f"{name}_quantized"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        parts = [f"{name}_quantized", f"{name}_scale"]
        node = onnx.helper.make_node("DequantizeLinear", parts, [name], axis=0, block_size=BLOCK, name=f"{name}_float")
        nodes.append(node)
    body = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *body])
    _raise_opset(model)
    out.write_bytes(model.SerializeToString())
    return out


def round_in_blocks(weight: NDArray[np.float32], block: int = BLOCK) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix `(C, O)` to 8 bits; return codes `(C, O)` and the scales of its blocks `(C / block, O)`."""
    blocks = weight.reshape(-1, block, weight.shape[1])
    largest = np.abs(blocks).max(1)
    scale = np.where(largest > TINY, largest / 127, 1).astype(np.float32)
    codes = np.rint(blocks / scale[:, None]).astype(np.int8)
    return codes.reshape(weight.shape), scale


def _require_weights(model: "onnx.ModelProto", float_nodes: Collection[str], multiple: int = 1) -> None:
    if not _product_weights(model, float_nodes, multiple):
        widths = f" of a width that {multiple} divides" if multiple > 1 else ""
        text = f"no matrix product with weights{widths} to quantize"
        raise ModelFileError(text, "use a static recipe", code="E426")


def _product_weights(model: "onnx.ModelProto", float_nodes: Collection[str], multiple: int) -> list[str]:
    """List the matrices `(C, O)` that only products read, with C a multiple of `multiple`."""
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    read = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in shapes]
    # A tied embedding is also looked up by Gather, which needs it as it is.
    read_otherwise = {name for node in model.graph.node for name in node.input[: 1 if node in read else None]}
    names = dict.fromkeys(node.input[1] for node in read if node.name not in float_nodes)
    return [n for n in names if n not in read_otherwise and len(shapes[n]) == 2 and shapes[n][0] % multiple == 0]


def _raise_opset(model: "onnx.ModelProto") -> None:
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, BLOCKED_OPSET)
    model.ir_version = max(model.ir_version, BLOCKED_IR)
