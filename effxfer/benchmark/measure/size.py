"""Size of an ONNX model: on disk, compressed, and in parameters."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer.errors import ModelFileError

if TYPE_CHECKING:
    import onnx

# What zip, gzip and HTTP do by default.
COMPRESSION = "zlib level 6"
CHUNK = 1 << 20  # chosen: a model of 2 GB must not be read at once


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of one model.

    Attributes:
        bytes: Size of the file and of its external data.
        compressed_bytes: Size of the same files, compressed by `COMPRESSION`.
        params: Number of weights; scales, zero points and shapes are not counted.
        nonzero: How many of them differ from zero; for quantized weights, from the zero point.
    """

    bytes: int
    compressed_bytes: int
    params: int
    nonzero: int

    @property
    def mb(self) -> float:
        """Size on disk in MB (10^6 bytes)."""
        return self.bytes / 1e6

    @property
    def zeros(self) -> float:
        """Share of the weights that are zero, in percent."""
        return 100 * (1 - self.nonzero / max(self.params, 1))

    @property
    def compressed_mb(self) -> float:
        """Compressed size in MB (10^6 bytes)."""
        return self.compressed_bytes / 1e6


def measure_size(file: Path) -> Size:
    """Measure an ONNX model.

    Raises:
        ModelFileError: If the file is absent, is not an ONNX model, or its weights are not beside it.
    """
    model = read_onnx(file)
    parts = [file, *sidecars(model, file)]
    params, nonzero = _count(model, file.parent)
    return Size(
        bytes=sum(part.stat().st_size for part in parts),
        compressed_bytes=sum(map(compressed_size, parts)),
        params=params,
        nonzero=nonzero,
    )


def compressed_size(file: Path) -> int:
    """Return the bytes of a file compressed by `COMPRESSION`, without loading it into memory."""
    # As `COMPRESSION` says.
    squeeze, total = zlib.compressobj(6), 0
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            total += len(squeeze.compress(chunk))
    return total + len(squeeze.flush())


def read_onnx(file: Path) -> "onnx.ModelProto":
    """Read a model's graph without external data.

    Raises:
        ModelFileError: If the file is absent, empty or not an ONNX model.
    """
    import onnx

    if not file.is_file():
        raise ModelFileError(f"no model file {file}", "write one with `effxfer export`", code="E424")
    try:
        # Never the weights beside: their path is in the file, and may lead anywhere.
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no public home
        text = f"{file} is not an ONNX model: {error}"
        raise ModelFileError(text, "write one with `effxfer export`", code="E424") from error
    # An empty file is a valid message without anything in it.
    if not model.graph.node:
        raise ModelFileError(f"{file} has no nodes", "write one with `effxfer export`", code="E424")
    return model


def sidecars(model: "onnx.ModelProto", file: Path) -> list[Path]:
    """List the files of external data beside a model.

    Raises:
        ModelFileError: If one is outside the folder, absent, or a link.
    """
    names = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    astray = [
        n for n in names if Path(n).name != n or not (file.parent / n).is_file() or (file.parent / n).is_symlink()
    ]
    if astray:
        raise ModelFileError(
            f"{file} refers to weights in {astray[0]!r}, which is no file beside it",
            "keep both files in one folder",
            code="E420",
        )
    return [file.parent / name for name in sorted(names)]


def _count(model: "onnx.ModelProto", folder: Path) -> tuple[int, int]:
    import numpy as np
    from onnx import numpy_helper

    aside, nothing = _non_weights(model), _zero_points(model)
    tensors = model.graph.initializer
    arrays: dict[str, Any] = {t.name: numpy_helper.to_array(t, base_dir=str(folder)) for t in tensors}
    params = nonzero = 0
    for name in arrays.keys() - aside:
        point, axis = nothing.get(name, ("", 0))
        # int8 zeros are codes of the zero point.
        zero = _broadcast_points(arrays[point], axis, arrays[name].ndim) if point in arrays else 0
        params += arrays[name].size
        nonzero += int(np.count_nonzero(arrays[name] != zero))
    return params, nonzero


def _broadcast_points(points: Any, axis: int, dims: int) -> Any:
    """Reshape one number per channel, `(C,)`, to broadcast to a weight of `dims` axes; a scalar needs none."""
    return points if points.ndim == 0 else points.reshape([-1 if d == axis % dims else 1 for d in range(dims)])


def _zero_points(model: "onnx.ModelProto") -> dict[str, tuple[str, int]]:
    """By quantized tensor, the name of its zero point, and the axis along which that has one per channel."""
    nodes = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and len(node.input) > 2]
    axes = [next((a.i for a in node.attribute if a.name == "axis"), 1) for node in nodes]
    return {node.input[0]: (node.input[2], axis) for node, axis in zip(nodes, axes, strict=True)}


def _non_weights(model: "onnx.ModelProto") -> set[str]:
    """Return the initializers that are no weights: scales, zero points, and parameters of shapes and resizing."""
    quant = ("QuantizeLinear", "DequantizeLinear")
    steer = (
        "Reshape",
        "Resize",
        "Slice",
        "Expand",
        "Gather",
        "Unsqueeze",
        "Squeeze",
        "Pad",
        "Clip",
        "ReduceMean",
        "Tile",
    )
    names: set[str] = set()
    for node in model.graph.node:
        if node.op_type in quant or node.op_type in steer:
            names.update(node.input[1:])
    return names
