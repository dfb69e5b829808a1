"""Multiply-adds and bytes of a kernel, from the shapes that it ran on."""

from math import prod

from effxfer.benchmark.measure.profile import Kernel, Shape

CONV = {"Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger"}
GEMM = {"Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QLinearMatMul", "MatMulInteger", "QGemm", "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul", "MatMulNBits"}  # fmt: skip
ATTENTION = {"Attention", "QAttention"}
TRANSPOSED = {"ConvTranspose", "QLinearConvTranspose"}
COMPUTE = CONV | GEMM | TRANSPOSED | ATTENTION
CONVERT = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
MOVE = {"Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "ReorderInput", "ReorderOutput",
        "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "DepthToSpace", "SpaceToDepth"}  # fmt: skip
INT8 = {"uint8", "int8"}
BYTES = {"bool": 1, "double": 8, "float": 4, "float16": 2, "int32": 4, "int64": 8, "int8": 1, "uint8": 1}


def macs(kernel: Kernel, weight: Shape = ()) -> int:
    """Count a kernel's multiply-adds; 0 for operators that are neither convolution nor matrix product.

    Args:
        kernel: The kernel.
        weight: Shape of the weight in the file, `(out, in / groups, ...)`: the profile omits weights that ONNX Runtime
            packed. Empty where it is unknown.
    """
    if not kernel.outputs or not kernel.inputs:
        return 0
    if kernel.op in CONV:
        # Each output takes a product per weight of its filter.
        return prod(kernel.outputs[0]) * prod((_weight(kernel) or weight or (0, 0))[1:])
    if kernel.op in TRANSPOSED:
        return prod(kernel.inputs[0]) * prod((_weight(kernel) or weight or (0, 0))[1:])
    if kernel.op in GEMM:
        return prod(kernel.outputs[0]) * _inner_dimension(kernel)
    if kernel.op in ATTENTION and len(kernel.inputs[0]) == 3:
        return _attention(kernel)
    return 0


def bytes_moved(kernel: Kernel, weight: Shape = ()) -> int:
    """Count the bytes that a kernel reads and writes, including weights that ONNX Runtime packed.

    Of a table of embeddings only the rows count that are looked up.
    """
    if kernel.op == "Gather" and kernel.inputs and kernel.outputs and kernel.types:
        skipped = max(0, prod(kernel.inputs[0]) - prod(kernel.outputs[0])) * BYTES.get(kernel.types[0], 4)
        return max(kernel.bytes - skipped, 0)
    if kernel.op not in COMPUTE or _weight(kernel):
        return kernel.bytes
    return kernel.bytes + prod(weight or (0,)) * (1 if is_quantized_kernel(kernel) else 4)


def is_quantized_kernel(kernel: Kernel) -> bool:
    """Whether a kernel computes on 8-bit numbers; conversions do not count."""
    return kernel.op not in CONVERT | MOVE and bool(kernel.types) and kernel.types[0] in INT8


def _weight(kernel: Kernel) -> Shape:
    """Shape of the first input after the activation with the same number of axes."""
    axes = len(kernel.inputs[0])
    return next((shape for shape in kernel.inputs[1:] if len(shape) == axes), ())


def _attention(kernel: Kernel) -> int:
    """Count ONNX Runtime's attention: one product for queries, keys and values, and two between tokens."""
    (batch, words, wide), out = kernel.inputs[0], kernel.outputs[0][-1]
    return batch * words * (3 * wide * out + 2 * words * out)


def _inner_dimension(kernel: Kernel) -> int:
    """Inner dimension of a matrix product; a Gemm may transpose its first matrix."""
    first = kernel.inputs[0]
    # The first axis is neither the batch nor 1: the matrix is transposed.
    if len(first) == 2 and first[0] not in {1, kernel.outputs[0][0]}:
        return first[0]
    return first[-1] if first else 0
