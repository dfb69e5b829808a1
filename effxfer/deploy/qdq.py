"""One int8 candidate: a float ONNX file, calibration images and a recipe in; a file with QDQ nodes out.

Static quantization after Jacob et al. 2018 (https://arxiv.org/abs/1712.05877), by `onnxruntime.quantization`. Weights
are symmetric, so a pruned weight stays exactly zero.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.onnx import load
from effxfer.deploy.settings import Recipe
from effxfer.errors import ModelFileError
from effxfer.runtime.image import Preprocess, normalize

if TYPE_CHECKING:
    import onnx

HEAVY = ("Conv", "Gemm", "MatMul")
HISTOGRAM_IMAGES = 32  # the quantizer keeps every activation of every image in memory to build histograms


def prepare(fp32: Path, out: Path) -> Path:
    """Infer shapes and fold what can be folded, so that the quantizer sees every tensor.

    Raises:
        ModelFileError: If the file cannot be prepared.
    """
    from onnxruntime.quantization import quant_pre_process

    with _quiet(), _refusing(fp32):
        try:
            quant_pre_process(fp32, out)
        except TypeError:  # symbolic shape inference of ONNX Runtime 1.32 stumbles over Expand by a computed shape
            quant_pre_process(fp32, out, skip_symbolic_shape=True)
    return out


def write_candidate(prepared: Path, out: Path, recipe: Recipe, feeds: "Feeds", ranges: Path) -> Path:
    """Quantize.

    Args:
        prepared: What `prepare` wrote.
        out: Where the candidate goes; a scratch file, without metadata.
        recipe: How.
        feeds: Calibration images.
        ranges: Folder in which activation ranges are kept from one recipe to the next.

    Raises:
        ModelFileError: If the quantizer refuses the graph.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    with _quiet(), _refusing(prepared):
        quantize_static(
            prepared,
            out,
            (feeds if recipe.calibration == "minmax" else feeds.some(HISTOGRAM_IMAGES)).reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=recipe.reduce_range,
            activation_type=kinds[recipe.activation],
            weight_type=kinds[recipe.weight],
            nodes_to_exclude=left_in_float(load(prepared).graph, recipe),
            calibrate_method=_method(recipe),
            calibration_cache_path=ranges / f"{recipe.calibration}.json",
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": False, "CalibPercentile": 99.99},
        )
    return out


def left_in_float(graph: "onnx.GraphProto", recipe: Recipe) -> list[str]:
    """Name the nodes that a recipe does not quantize.

    What runs before the first convolution or matrix product is always left.
    """
    names = [node.name for node in graph.node]
    heavy = [node.name for node in graph.node if node.op_type in HEAVY]
    if not heavy:
        return []
    left = names[: names.index(heavy[0])] + heavy[: recipe.float_first]
    left += heavy[-1:] if recipe.float_last else []
    left += [node.name for node in graph.node if is_depthwise(node)] if recipe.float_depthwise else []
    return sorted(set(left))


def is_depthwise(node: "onnx.NodeProto") -> bool:
    """Tell a convolution with more than one group."""
    return node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)


@dataclass(frozen=True, kw_only=True)
class Feeds:
    """Calibration images in the form that a file takes.

    Attributes:
        name: Of the input.
        pixels: uint8 `(N, S, S, 3)`.
        preprocess: The file's.
        batch: Images per call.
    """

    name: str
    pixels: NDArray[np.uint8]
    preprocess: Preprocess
    batch: int = 16

    def feed(self, start: int, count: int) -> dict[str, NDArray[Any]]:
        """Give `count` images from `start` on."""
        chunk = self.pixels[start : start + count]
        return {self.name: normalize(chunk, self.preprocess)}

    def some(self, count: int, seed: int = 0) -> "Feeds":
        """Keep at most `count` images, one of each even stretch: in a split sorted by class every class has a share."""
        ends = np.linspace(0, len(self.pixels), min(count, len(self.pixels)) + 1).astype(int)
        which = np.random.default_rng(seed).integers(ends[:-1], ends[1:])
        return replace(self, pixels=self.pixels[which])

    def reader(self) -> Any:
        """Give what `onnxruntime.quantization` draws from: batches of equal size, the last one moved up to fit."""
        from onnxruntime.quantization import CalibrationDataReader

        last = max(len(self.pixels) - self.batch, 0)
        feeds = (self.feed(min(start, last), self.batch) for start in range(0, len(self.pixels), self.batch))

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> dict[str, NDArray[Any]] | None:
                return next(feeds, None)

        return Reader()


def _method(recipe: Recipe) -> Any:
    from onnxruntime.quantization import CalibrationMethod

    return {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }[recipe.calibration]


@contextmanager
def _refusing(file: Path) -> Iterator[None]:
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:  # the quantizer raises anything
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(f"{file.name} cannot be quantized: {cause}", "switch int8 off", code="E426") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice off the screen: it logs to the root logger, prints and warns."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
