"""Find the products of an int8 file that ONNX Runtime computes with integers, as matrices.

The file does not tell which nodes those are: ONNX Runtime fuses QDQ nodes when it opens a file, and nodes that it
cannot fuse run in float. On x86 it also makes most signed activations unsigned (21 of 36 layers of a MobileNetV2), so
S8S8 files saturate like U8S8 ones. This module therefore reads the graph that ONNX Runtime optimized for x86.

Axes: N images, C channels, M rows of a product (pixels of all images), K products per output, O outputs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.export.logits import EXACT
from effxfer.errors import ModelFileError
from effxfer.process.scratch import scratch_folder
from effxfer.runtime.session import FATAL, error_summary, open_session, session_options

if TYPE_CHECKING:
    import onnx

# per operator: positions of the codes, their zero point, the weights and their zero point among its inputs
INPUT_POSITIONS = {
    "DynamicQuantizeMatMul": (0, None, 1, 3),
    "MatMulInteger": (0, 2, 1, 3),
    "MatMulIntegerToFloat": (0, 4, 1, 5),
    "QGemm": (0, 2, 3, 5),
    "QLinearConv": (0, 2, 3, 5),
    "QLinearMatMul": (0, 2, 3, 5),
}
CONV = "QLinearConv"
# As ONNX Runtime does by itself on x86; on ARM it would keep signed activations signed.
X86_ENTRIES = {"session.qdqisint8allowed": "0"}


@dataclass(frozen=True, kw_only=True)
class Product:
    """A node that multiplies unsigned codes of activations with signed constant weights.

    Attributes:
        name: Name of the node.
        op: Operator of the layer.
        codes: Name of the tensor of uint8 codes (of floats for `DynamicQuantizeMatMul`).
        zero: Their zero point, or the name of the tensor that holds it; only padding needs it.
        weights: int8 `(O, C / groups, *kernel)` of a convolution, `(..., K, O)` of a matrix product.
        attributes: Attributes of the node.
    """

    name: str
    op: str
    codes: str
    zero: int | str
    weights: NDArray[np.int8]
    attributes: Mapping[str, Any]

    @property
    def groups(self) -> int:
        """Groups of the convolution; 1 for a matrix product."""
        return int(self.attributes.get("group", 1)) if self.op == CONV else 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each group maps one channel to one, for which ONNX Runtime has a separate kernel."""
        # ONNX Runtime's depthwise kernel maps one channel to one; more take the general kernel, which pairs products.
        single_channel = self.weights.shape[1] == 1 and self.weights.shape[0] == self.groups
        return self.groups > 1 and single_channel

    def matrices(self) -> list[NDArray[np.int8]]:
        """Return the weights as matrices `(K, O)`, one per group, K in the order in which products are paired."""
        if self.op != CONV:
            return [w.T if self.attributes.get("transB") else w for w in _matrices_of(self.weights)]
        parts = np.split(self.weights, self.groups)
        return [part.transpose(*range(2, part.ndim), 1, 0).reshape(-1, len(part)) for part in parts]

    def rows(self, codes: NDArray[Any], zero: int) -> list[NDArray[np.uint8]]:
        """Return the codes as matrices `(M, K)`, the left operands of the products.

        Args:
            codes: `(N, C, *size)` of a convolution, `(..., M, K)` of a matrix product.
            zero: Their zero point.
        """
        if self.op == CONV:
            parts = np.split(codes, self.groups, axis=1)
            return [_windows(part, self.weights.shape[2:], self.attributes, zero) for part in parts]
        codes = quantize_dynamically(codes) if self.op == "DynamicQuantizeMatMul" else codes
        codes = codes.T if self.attributes.get("transA") else codes
        if self.weights.ndim > 2 and self.weights.size != self.weights.shape[-1] * self.weights.shape[-2]:
            shape = (*self.weights.shape[:-2], *codes.shape[-2:])
            return list(np.broadcast_to(codes, np.broadcast_shapes(codes.shape, shape)).reshape(-1, *codes.shape[-2:]))
        return [codes.reshape(-1, codes.shape[-1])]


def integer_products(file: Path) -> tuple["onnx.ModelProto", list[Product]]:
    """Optimize a file by ONNX Runtime and list its nodes that multiply unsigned codes with signed weights.

    Args:
        file: An int8 file, quantized in any way.

    Returns:
        The optimized graph, and its products.

    Raises:
        ModelFileError: If ONNX Runtime refuses the file, or signed weights are computed inside the graph.
    """
    import onnx

    with scratch_folder() as folder:
        optimized = folder / "optimized.onnx"
        open_optimized(file, optimized)
        model = onnx.load(optimized)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products = (_product(node, constants) for node in model.graph.node if node.op_type in INPUT_POSITIONS)
    return model, [product for product in products if product]


def open_optimized(model: Path | bytes, optimized: Path | None = None, *, exact: bool = False) -> Any:
    """Open a file with one thread and the optimizations that do not depend on the CPU.

    Args:
        model: A file or its content.
        optimized: File for the graph that ONNX Runtime runs.
        exact: Sum products without saturation, also on x86 without VNNI.

    Raises:
        ModelFileError: If ONNX Runtime refuses the file.
    """
    entries, written = {**X86_ENTRIES, **(EXACT if exact else {})}, {"optimized_model_filepath": str(optimized)}
    # Extended and not all: layouts in blocks of channels depend on the CPU, and hide the operators of before.
    options = session_options(
        threads=1, level="ORT_ENABLE_EXTENDED", severity=FATAL, entries=entries, **(written if optimized else {})
    )

    try:
        return open_session(model, options)
    except Exception as error:  # ONNX Runtime raises its own types, ValueError and RuntimeError
        raise ModelFileError(
            f"ONNX Runtime refuses the file: {error_summary(error)}", "export it again", code="E424"
        ) from None


def quantize_dynamically(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Quantize to 8 bits by the range of the values and 0, like `DynamicQuantizeLinear`."""
    # 0 lies in the range, as ONNX defines the operator.
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    # All zeros: any scale will do, but 0.
    scale = np.float32((high - low) / 255) or np.float32(1)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    codes: NDArray[np.uint8] = np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.uint8)
    return codes


def _product(node: "onnx.NodeProto", constants: Mapping[str, "onnx.TensorProto"]) -> Product | None:
    """Read a node; None if its kernel cannot saturate, because its weights are unsigned or its codes signed."""
    import onnx

    codes, zero_place, weight, _ = INPUT_POSITIONS[node.op_type]
    tensor = constants.get(node.input[weight])
    if tensor is None:
        return None
    weights = onnx.numpy_helper.to_array(tensor)
    offset = _offset(node, zero_place, constants)
    if weights.dtype != np.int8 or offset is None:
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return Product(
        name=node.name, op=node.op_type, codes=node.input[codes], zero=offset, weights=weights, attributes=attributes
    )


def _offset(node: "onnx.NodeProto", place: int | None, constants: Mapping[str, "onnx.TensorProto"]) -> int | str | None:
    """Read the zero point of the codes; 0 if the node omits it, None if the codes are signed."""
    import onnx

    name = node.input[place] if place is not None and place < len(node.input) else ""
    if not name or name not in constants:
        return name or 0
    zero = onnx.numpy_helper.to_array(constants[name])
    return None if zero.dtype == np.int8 else int(zero.reshape(-1)[0])


def _matrices_of(weights: NDArray[np.int8]) -> Iterator[NDArray[np.int8]]:
    return iter(weights.reshape(-1, *weights.shape[-2:]))


def _windows(
    codes: NDArray[np.uint8], kernel: tuple[int, ...], attributes: Mapping[str, Any], zero: int
) -> NDArray[np.uint8]:
    """Unfold the patches under a convolution's kernel: `(N, C, *size)` to `(M, K)`, channels fastest."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ModelFileError(
            f"a convolution uses auto_pad {attributes['auto_pad'].decode()}", "export it with explicit pads"
        )
    rank = len(kernel)
    pads, strides = attributes.get("pads", [0] * 2 * rank), attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    ends = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    # Padding is 0.0, and that is the zero point's code.
    padded = np.pad(codes, ends, constant_values=zero)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    views = views[(slice(None), slice(None), *(slice(None, None, s) for s in (*strides, *dilations)))]
    positions, taps = range(2, 2 + rank), range(2 + rank, 2 + 2 * rank)
    patches = views.transpose(0, *positions, *taps, 1)
    return patches.reshape(int(np.prod(patches.shape[: 1 + rank])), -1)
