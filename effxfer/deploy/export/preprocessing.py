"""Resizing, cropping, scaling and softmax as ONNX operators, so that a device feeds decoded pixels of any size.

Models of several labels have sigmoid instead of softmax, models of values the way back to their units.

The graph repeats `resize_crop` and `normalize` of the runtime operator by operator. Where that is not obvious:

* Pillow leaves weights outside the image out (`exclude_outside`); its cubic has the coefficient -0.5.
* Pillow resizes one axis after the other and rounds in between. The vertical axis comes first in images that lose more
  than twice as many rows as columns; not in all its versions, so the installed one is asked.
* `axes` of Resize is not used: ONNX Runtime 1.32 moves the transposition behind the Resize and then miscounts them.
* Sides round down, those of letterboxed images to the nearest, and half pixels in front of the crop round to even, as
  Python does it; all in whole numbers.
* Pad takes one value for all channels: the colour of the border is taken off before, and put back after.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from effxfer.data.task import require_images
from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.onnx import BATCH, load, read_metadata, strip, write_metadata
from effxfer.deploy.graph.graph import Graph
from effxfer.deploy.settings import RESIZES
from effxfer.errors import ModelFileError
from effxfer.runtime.images.crop import resized_side
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.regression import Regression

if TYPE_CHECKING:
    import onnx

PIXELS, PROBABILITIES, VALUES = "pixels", "probabilities", "values"
LOGITS = "logits"  # before the name of a task: its outputs within the graph
# ONNX's Resize has neither Lanczos nor Pillow's box filter.
MODES = {"bilinear": "linear", "bicubic": "cubic"}
PREFIX = "preprocessing/"
TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
preprocessing (uint8[batch, height, width, 3] pixels) => (float[batch, 3, side, side] images)
{
    planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
    count = Shape <start = 0, end = 2> (planes)
    sides = Shape <start = 2> (planes)

    $resized_sides

    zero = Constant <value_ints = [0]> ()
    twice = Constant <value_ints = [1, -2]> ()
    change = Sub (sides, wanted)
    loss = Max (change, zero)
    weighted = Mul (loss, twice)
    excess = ReduceSum (weighted)
    tall = Greater (excess, zero)
    order = Constant <value = bool[2] $order> ()
    first = $first
    between = Where (first, wanted, sides)
    sizes_1 = Concat <axis = 0> (count, between)
    sizes_2 = Concat <axis = 0> (count, wanted)
    once = Resize <mode = "$mode", antialias = 1, exclude_outside = 1, cubic_coeff_a = -0.5> (planes, , , sizes_1)
    resized = Resize <mode = "$mode", antialias = 1, exclude_outside = 1, cubic_coeff_a = -0.5> (once, , , sizes_2)

    side = Constant <value_ints = [$side]> ()
    two = Constant <value_ints = [2]> ()
    axes = Constant <value_ints = [2, 3]> ()
    $cropped_lines
    half = Div (spare, two)
    odd = Mod (spare, two)
    uneven = Mod (half, two)
    up = Mul (odd, uneven)
    start = Add (half, up)
    end = Add (start, side)
    cropped = Slice (resized, start, end, axes)

    most = Constant <value_float = 255.0> ()
    mean = Constant <value = float[1, 3, 1, 1] $mean> ()
    std = Constant <value = float[1, 3, 1, 1] $std> ()
    $raw
    scaled = Div (raw, most)
    centred = Sub (scaled, mean)
    images = Div (centred, std)
}
"""


class View(NamedTuple):
    """The lines of `TEXT` that differ between the values of `Preprocess.crop`.

    Attributes:
        resized_sides: Height and width after resizing.
        cropped_lines: Rows and columns to crop.
        raw: The square, padded if need be, as float32.
    """

    resized_sides: str
    cropped_lines: str = "spare = Sub (wanted, side)"
    raw: str = "raw = Cast <to = 1> (cropped)"


VIEWS = {
    "center": View(
        resized_sides="""short = Constant <value_ints = [$short]> ()
    shorter = ReduceMin (sides)
    product = Mul (sides, short)
    wanted = Div (product, shorter)"""
    ),
    "squash": View(resized_sides="wanted = Constant <value_ints = [$short, $short]> ()"),
    "letterbox": View(
        resized_sides="""short = Constant <value_ints = [$short]> ()
    longer = ReduceMax (sides)
    product = Mul (sides, short)
    quotient = Div (product, longer)
    rest = Mod (product, longer)
    pair = Constant <value_ints = [2]> ()
    unit = Constant <value_ints = [1]> ()
    doubled = Mul (rest, pair)
    odd_quotient = Mod (quotient, pair)
    nudged = Add (doubled, odd_quotient)
    above = Greater (nudged, longer)
    more = Cast <to = 7> (above)
    nearest = Add (quotient, more)
    wanted = Max (nearest, unit)""",
        cropped_lines="""beyond = Sub (wanted, side)
    spare = Max (beyond, zero)""",
        raw="""surplus = Sub (side, wanted)
    lack = Max (surplus, zero)
    before = Div (lack, two)
    after = Sub (lack, before)
    pads = Concat <axis = 0> (before, after)
    colour = Constant <value = float[1, 3, 1, 1] $colour> ()
    bare = Cast <to = 1> (cropped)
    lowered = Sub (bare, colour)
    bordered = Pad (lowered, pads, , axes)
    raw = Add (bordered, colour)""",
    ),
}


def add_preprocessing(file: Path) -> Path:
    """Add preprocessing before an exported network, and behind it what turns outputs into answers, in the same file.

    The input becomes `pixels`, uint8 `(batch, height, width, 3)`, RGB of any size (of one size within a batch); the
    output becomes `probabilities`, float32 `(batch, classes)`: softmax, or for several labels sigmoid; or `values` in
    their units, float32 `(batch, K)`. Outputs of several tasks keep their names. So whoever runs the file needs none of
    its metadata but names and thresholds.

    Args:
        file: File that `export_onnx` or `quantize` wrote; replaced only by a complete file.

    Raises:
        ModelFileError: If the file is not one of these, or its resizing filter is none of ONNX's (E426).
    """
    import onnx

    metadata, model = read_metadata(file), load(file)
    if metadata.with_preprocessing:
        raise ModelFileError(f"{file} has its preprocessing inside already", "export it again", code="E428")
    if Graph(model).opset < RESIZES:
        problem = f"{file} is of operator set {Graph(model).opset}, images can be resized inside from {RESIZES} on"
        raise ModelFileError(problem, f"export it with opset={RESIZES} or later", code="E426")
    front = preprocessing_graph(require_images(metadata.input, "with_preprocessing"))
    graph = model.graph
    # Before the nodes change: these values become inner tensors, whose shapes stay known.
    images, ends, infos = graph.input[0], list["onnx.GraphProto"](), list["onnx.ValueInfoProto"]()
    for logits, output, name in _answered_outputs(graph, metadata.output):
        end = answers_graph(output, logits.name, name)
        columns = logits.type.tensor_type.shape.dim[1].dim_param or output.width
        ends.append(end)
        infos.append(onnx.helper.make_tensor_value_info(end.output[0].name, onnx.TensorProto.FLOAT, [BATCH, columns]))
    nodes = [*front.node, *graph.node, *(node for end in ends for node in end.node)]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.value_info.extend([images, *graph.output[: len(ends)]])
    graph.initializer.extend(weight for end in ends for weight in end.initializer)
    graph.input[0].CopyFrom(front.input[0])
    for place, info in enumerate(infos):
        graph.output[place].CopyFrom(info)
    strip(model)
    write_metadata(model, replace(metadata, output=metadata.output.of_answers(), with_preprocessing=True))
    return write_model(model, file)


def _answered_outputs(graph: "onnx.GraphProto", output: Output) -> "Iterator[tuple[onnx.ValueInfoProto, Output, str]]":
    """Yield each output of the network, its kind, and the name of its answers; empty for that of its kind.

    Answers of several tasks have the name of the task, and the network's own outputs another one from here on.
    """
    if not isinstance(output, TaskOutputs):
        yield graph.output[0], output, ""
        return
    for value in graph.output[: len(output.outputs)]:
        task, inner = value.name, f"{LOGITS}/{value.name}"
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == task else name for name in names]
        value.name = inner
        yield value, output.outputs[task], task


def preprocessing_graph(preprocess: Preprocess) -> "onnx.GraphProto":
    """Build the operators from `pixels`, uint8 `(batch, height, width, 3)`, to `images`, float32 `(batch, 3, S, S)`.

    Raises:
        ModelFileError: If images were resized by a filter that ONNX does not have.
    """
    import onnx.parser

    if preprocess.interpolation not in MODES:
        problem = f"no ONNX operator resizes as {preprocess.interpolation} does"
        raise ModelFileError(problem, f"leave out with_preprocessing, or train with {' or '.join(MODES)}", code="E426")
    graph = onnx.parser.parse_model(_fill_template(preprocess)).graph
    for number, node in enumerate(graph.node):
        node.name = f"{PREFIX}{node.op_type}_{number}"
        for names in (node.input, node.output):
            names[:] = [name if name in ("", PIXELS, "images") else PREFIX + name for name in names]
    return graph


def answers_graph(output: Output, logits: str, task: str = "") -> "onnx.GraphProto":
    """Build the operators from outputs of that name to what `Output.to_answers` returns.

    A file with them holds the output of `Output.of_answers`. Answers of one of several tasks are named by `task`.
    """
    import onnx
    from onnx import helper, numpy_helper

    numbers, prefix = dict[str, tuple[float, ...]](), f"{task}/" if task else ""
    if isinstance(output, Regression):
        name = task or VALUES
        centred = f"{prefix}values/centred"
        numbers = {f"{prefix}values/deviation": output.deviation, f"{prefix}values/mean": output.mean}
        scale, shift = numbers
        nodes = [
            helper.make_node("Mul", [logits, scale], [centred], name=f"{prefix}values/scale"),
            helper.make_node("Add", [centred, shift], [name], name=f"{prefix}values/shift"),
        ]
    else:
        name, operator = task or PROBABILITIES, "Softmax" if output.kind == "single" else "Sigmoid"
        options: dict[str, Any] = {"axis": 1} if operator == "Softmax" else {}
        nodes = [helper.make_node(operator, [logits], [name], name=f"{prefix}{operator.lower()}", **options)]
    weights = [numpy_helper.from_array(np.array(values, np.float32), key) for key, values in numbers.items()]
    info = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "answers", [], [info], weights)


def front_of(file: Path) -> "onnx.ModelProto":
    """Extract the preprocessing of a file that `add_preprocessing` wrote, as its own model."""
    import onnx

    model = load(file)
    images = next(value for value in model.graph.value_info if value.name == "images")
    nodes = [node for node in model.graph.node if node.name.startswith(PREFIX)]
    graph = onnx.helper.make_graph(nodes, "preprocessing", [model.graph.input[0]], [images])
    return onnx.helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import)


def _fill_template(preprocess: Preprocess) -> str:
    return Template(Template(TEXT).safe_substitute(VIEWS[preprocess.crop]._asdict())).substitute(
        first="Xor (tall, order)" if tall_first() else "Identity (order)",
        order="{0, 1}",
        short=resized_side(preprocess),
        colour=_braces(preprocess.padding_colour()),
        side=preprocess.size,
        mode=MODES[preprocess.interpolation],
        mean=_braces(preprocess.mean),
        std=_braces(preprocess.std),
    )


def _braces(values: tuple[float, ...]) -> str:
    # Nine digits after the point give every float32 back exactly.
    return "{" + ", ".join(f"{np.float32(value):.9e}" for value in values) + "}"


def tall_first() -> bool:
    """Whether the installed Pillow, which training images went through, resizes tall ones vertically first."""
    from PIL import Image

    # An image that loses more rows than columns, of a pattern whose rounding differs by the order of axes.
    stripes = np.indices((24, 8)).sum(0) % 3 == 0
    tall = Image.fromarray((255 * stripes).astype(np.uint8))
    by_columns = tall.resize((7, 24), Image.Resampling.BICUBIC).resize((7, 20), Image.Resampling.BICUBIC)
    return tall.resize((7, 20), Image.Resampling.BICUBIC).tobytes() != by_columns.tobytes()
