"""Static int8 quantization of a float ONNX file to QDQ nodes, with calibration images.

Static quantization after Jacob et al. 2018 (https://arxiv.org/abs/1712.05877), by `onnxruntime.quantization`. Weights
are symmetric, so a pruned weight stays exactly zero.
"""

import fnmatch
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.export.onnx import load
from effxfer.deploy.int8.recipes import HEAVY, Recipe
from effxfer.errors import ModelFileError, did_you_mean
from effxfer.runtime.inputs import Input
from effxfer.runtime.rows import Ragged, Rows

if TYPE_CHECKING:
    import onnx

HISTOGRAM_IMAGES = 32  # the quantizer keeps every activation of every image in memory to build histograms


def prepare(fp32: Path, out: Path) -> Path:
    """Infer shapes and fold what can be folded, so that the quantizer sees every tensor.

    Raises:
        ModelFileError: If the file cannot be prepared.
    """
    from onnxruntime.quantization import quant_pre_process

    with silence_quantizer(), wrap_quantizer_errors(fp32):
        try:
            quant_pre_process(fp32, out)
        except TypeError:  # symbolic shape inference of ONNX Runtime 1.32 stumbles over Expand by a computed shape
            quant_pre_process(fp32, out, skip_symbolic_shape=True)
    return out


def write_candidate(
    prepared: Path, out: Path, recipe: Recipe, feeds: "Feeds", ranges: Path, float_nodes: Collection[str] = ()
) -> Path:
    """Quantize with ranges measured beforehand.

    Args:
        prepared: File that `prepare` wrote.
        out: Scratch file for the candidate, without metadata.
        recipe: A recipe of kind `static`.
        feeds: Calibration images.
        ranges: Folder in which activation ranges are kept from one recipe to the next.
        float_nodes: Nodes that stay in float32 besides the recipe's.

    Raises:
        ModelFileError: If the quantizer refuses the graph.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    kinds = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    with silence_quantizer(), wrap_quantizer_errors(prepared):
        quantize_static(
            prepared,
            out,
            (feeds if recipe.calibration == "minmax" else feeds.histogram_subset()).reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(recipe.only) or None,
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            activation_type=kinds[recipe.activation],
            weight_type=kinds[recipe.weight],
            nodes_to_exclude=sorted({*float_nodes_of(load(prepared).graph, recipe), *float_nodes}),
            calibrate_method=_method(recipe),
            calibration_cache_path=ranges / _ranges_name(recipe),
            # 99.99 is among the best percentiles of Wu et al. 2020 (https://arxiv.org/abs/2004.09602); the quantizer's
            # is 99.999.
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": False, "CalibPercentile": 99.99},
        )
    return out


def float_nodes_of(graph: "onnx.GraphProto", recipe: Recipe) -> list[str]:
    """List the nodes that a recipe does not quantize.

    What runs before the first convolution or matrix product is always left.
    """
    names = [node.name for node in graph.node]
    heavy = [node.name for node in graph.node if node.op_type in HEAVY]
    if not heavy:
        return []
    # What precedes the first layer is preprocessing, whose range is that of pixels.
    float_nodes = names[: names.index(heavy[0])] + heavy[: recipe.float_first]
    float_nodes += heavy[-1:] if recipe.float_last else []
    float_nodes += [node.name for node in graph.node if is_depthwise(node)] if recipe.float_depthwise else []
    return sorted(set(float_nodes))


def match_nodes(graph: "onnx.GraphProto", layers: Sequence[str] = (), operators: Sequence[str] = ()) -> list[str]:
    """List the nodes of some operator types, and those whose name or weight matches a shell pattern.

    Raises:
        ModelFileError: If a pattern or an operator fits nothing, with the names there are.
    """
    initializers = {tensor.name for tensor in graph.initializer}
    node_names = {node.name: (node.name, *(name for name in node.input if name in initializers)) for node in graph.node}
    operator_types = {node.op_type for node in graph.node}
    for name in operators:
        if name not in operator_types:
            text = f"no operator {name!r} in the graph{did_you_mean(name, operator_types)}"
            raise ModelFileError(text, f"operators: {', '.join(sorted(operator_types))}", code="E426")
    for pattern in layers:
        if not any(fnmatch.filter(names, pattern) for names in node_names.values()):
            weights = [name for names in node_names.values() for name in names[1:] if name.endswith("weight")]
            raise ModelFileError(f"no layer fits {pattern!r}", f"weights: {', '.join(weights[:6])} ...", code="E426")
    fits = {name for name, names in node_names.items() if any(fnmatch.filter(names, pattern) for pattern in layers)}
    return sorted(fits | {node.name for node in graph.node if node.op_type in operators})


def is_depthwise(node: "onnx.NodeProto") -> bool:
    """Whether a node is a convolution with more than one group."""
    return node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)


@dataclass(frozen=True, kw_only=True)
class Feeds:
    """Calibration examples in the input format of a file.

    Attributes:
        name: Name of the input.
        rows: uint8 `(N, S, S, 3)` or `Ragged` ids; without `input` the input itself, `(N, ...)`.
        input: The file's own input, which makes its feed of rows; None if rows are the feed itself.
        batch: Examples per call.
    """

    name: str
    rows: Rows
    input: Input | None
    # Chosen: a call for each image would cost its start; of a larger batch all activations are in memory at once.
    batch: int = 16

    def feed(self, start: int, count: int) -> dict[str, NDArray[Any]]:
        """Return `count` examples from `start` on."""
        chunk = self.rows[start : start + count]
        return {self.name: np.asarray(chunk) if self.input is None else self.input.feed(chunk)}

    @property
    def unit(self) -> str:
        """Noun for a number of examples."""
        return "images" if self.input is None else self.input.unit

    def typical(self) -> dict[str, NDArray[Any]]:
        """Return one example to time a file with: the first image, or the text of median length."""
        if isinstance(self.rows, Ragged):
            order = np.argsort(self.rows.lengths, kind="stable")
            return self.feed(int(order[len(order) // 2]), 1)
        return self.feed(0, 1)

    def subset(self, count: int, seed: int = 0) -> "Feeds":
        """Keep at most `count` examples, one of each even stretch: in a split sorted by class every class has a share.

        Texts are sorted by length, because a range must not be that of padding.
        """
        ends = np.linspace(0, len(self.rows), min(count, len(self.rows)) + 1).astype(int)
        chosen = np.random.default_rng(seed).integers(ends[:-1], ends[1:])
        rows = self.rows[chosen]
        return replace(self, rows=rows[np.argsort(rows.lengths, kind="stable")] if isinstance(rows, Ragged) else rows)

    def histogram_subset(self) -> "Feeds":
        """Keep few examples, for ranges from histograms; texts are one batch, padded to one length."""
        few = self.subset(HISTOGRAM_IMAGES)
        return replace(few, batch=HISTOGRAM_IMAGES) if isinstance(few.rows, Ragged) else few

    def batches(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield all examples in batches of equal size; the last one overlaps the one before."""
        # Of equal size: the quantizer's histograms take all batches as one array.
        last = max(len(self.rows) - self.batch, 0)
        return (self.feed(min(start, last), self.batch) for start in range(0, len(self.rows), self.batch))

    def reader(self) -> Any:
        """Return a data reader for `onnxruntime.quantization`."""
        from onnxruntime.quantization import CalibrationDataReader

        feeds = self.batches()

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


def _ranges_name(recipe: Recipe) -> str:
    """Ranges are measured where something is quantized, so they are kept by the operators that are."""
    return "-".join((recipe.calibration, *recipe.only)) + ".json"


@contextmanager
def wrap_quantizer_errors(file: Path) -> Iterator[None]:
    """Convert exceptions of the quantizer to ModelFileError."""
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:  # the quantizer raises anything
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(f"{file.name} cannot be quantized: {cause}", "switch int8 off", code="E426") from error


@contextmanager
def silence_quantizer() -> Iterator[None]:
    """Silence the quantizer, which logs to the root logger, prints and warns."""
    import onnxruntime

    before = logging.root.manager.disable
    # It logs to the root logger, whose handlers belong to the caller.
    logging.disable(logging.WARNING)
    # 4 is fatal errors, 2 ONNX Runtime's default of warnings. Errors that matter are raised; a process that may not use
    # all cores, as on SLURM and Kubernetes, has others: the calibrator's session cannot pin its threads.
    onnxruntime.set_default_logger_severity(4)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)
