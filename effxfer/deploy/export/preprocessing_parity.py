"""Check the preprocessing inside a file against training, on real images of all sizes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.task import Split
from effxfer.deploy.export.logits import open_model
from effxfer.deploy.export.parity import agreement, drop_faults, reject_for
from effxfer.deploy.export.preprocessing import front_of
from effxfer.errors import DataError
from effxfer.progress import bar
from effxfer.report import Measurement, Report
from effxfer.runtime.images.crop import graph_input
from effxfer.runtime.images.preprocess import Preprocess, normalize
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.multi_task.worst_task import main_scores
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.runtime.session import open_session, session_options

# Of 255: Pillow rounds between the axes, ONNX Runtime in single precision; one level either way is rounding.
LEVEL = 1.0
# Share of values that may be off by two levels, where both roundings fall apart.
RARE = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitOutputs:
    """Outputs of a file with preprocessing on the images of a split.

    Attributes:
        answers: Probabilities or values in their units, float32 `(N, C)`.
        largest: Largest difference between an input of the network and the one that Pillow makes, in 1/255 of the
            range of a colour.
        beyond: Share of these inputs that differ by more than 1/255.
        sizes: Different sizes among the images.
    """

    answers: NDArray[np.float32]
    largest: float
    beyond: float
    sizes: int


def run_split(file: Path, split: Split, *, threads: int = 0) -> SplitOutputs:
    """Run a file with preprocessing on all images of a split, decoded again.

    Args:
        file: What `add_preprocessing` wrote.
        split: With `decode_row`, its images as they are.
        threads: Threads of ONNX Runtime; 0 is one per core.

    Raises:
        ModelFileError: If the file cannot be opened.
        DataError: If the images are not at hand, or cannot be decoded any more.
    """
    if split.decode_row is None:
        raise DataError("the images are not at hand, only their resized pixels", "give the folder they come from")
    model, front = open_model(file, threads), _open_front(file, threads)
    rows, largest, beyond, sizes = [], 0.0, 0.0, set()
    with bar("whole images", len(split)) as advance:
        for row in range(len(split)):
            image = split.decode_row(row)
            off = _levels(front, image, split.rows[row : row + 1], model)
            rows.append(_answer(model, image))
            largest = float(np.maximum(largest, off.max()))  # not max: it drops NaN
            # 1e-2: scaling to the network's input and back costs some float32 digits.
            beyond += float((off > LEVEL + 1e-2).mean())
            sizes.add(image.shape[:2])
            advance(1, "")
    return SplitOutputs(
        answers=np.concatenate(rows), largest=largest, beyond=beyond / max(len(split), 1), sizes=len(sizes)
    )


def check_preprocessing(
    file: Path,
    split: Split,
    expected: NDArray[np.float32],
    *,
    output: Output = SINGLE_LABEL,
    max_drop: float = 0.1,
    threads: int = 0,
) -> Report:
    """Accept a file with preprocessing, or rename it and raise.

    An input of the network may differ by 1/255 from the one that it was trained on; by 2/255 in at most one of 100,000
    values, because ONNX Runtime's weights are of single precision and both round twice.

    Args:
        file: What `add_preprocessing` wrote.
        split: The whole validation split, with `decode_row`.
        expected: The same network's logits `(N, classes)` for `split.rows`, without preprocessing.
        max_drop: Points of the main metric that resizing inside the graph may cost.
        output: The kind of the labels.
        threads: Threads of ONNX Runtime; 0 is one per core.

    Returns:
        `preprocessing/input`: largest difference of an input in 1/255; `preprocessing/agreement`: images with the same
        decision, in percent; `METRIC/pixels` and `METRIC/whole`: without and with preprocessing inside.

    Raises:
        GateError: With the figures (`E602`); the file is renamed to `*.rejected`.
        ModelFileError: If the file cannot be opened.
        DataError: As `run_split`.
    """
    outputs = run_split(file, split, threads=threads)
    raw, n = output.from_answers(outputs.answers), len(split)
    agreed = agreement(output, expected, raw, split.labels)
    report = Report(
        rows=(
            Measurement(name="preprocessing/input", value=outputs.largest, unit="of 255", n=n),
            Measurement(name="preprocessing/agreement", value=agreed, unit="%", n=n, of="images"),
            *(Measurement.from_score("pixels", each) for each in main_scores(output, expected, split.labels)),
            *(Measurement.from_score("whole", each) for each in main_scores(output, raw, split.labels)),
        ),
        notes=(f"preprocessing inside the graph: {n} images of {outputs.sizes} sizes",),
    )
    faults = [*_input_faults(outputs), *drop_faults(report, max_drop, output, ("pixels", "whole"))]
    problem, advice = "does not see what it was trained on", "leave out with_preprocessing, or raise preprocessing_drop"
    reject_for(faults, file, problem, advice, code="E602")
    return report


def _answer(model: Model, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the file gives for an image, `(1, C)`; NaN outputs are kept for the gate."""
    try:
        return model.outputs([image])
    except ModelError as error:
        if error.code != "E429":
            raise
        return np.full((1, len(model.labels)), np.nan, np.float32)


def _open_front(file: Path, threads: int) -> Any:
    return open_session(front_of(file).SerializeToString(), session_options(threads=threads))


def _levels(front: Any, image: NDArray[np.uint8], pixels: NDArray[np.uint8], model: Model) -> NDArray[np.float32]:
    """Return how far each input `(1, 3, S, S)` is from the trained one, in 1/255 of the range of a colour."""
    from PIL import Image

    preprocess: Preprocess = model.preprocess
    canvas = graph_input(Image.fromarray(image), preprocess)
    got = front.run(None, {model.input_name: canvas[None]})[0]
    std = np.asarray(preprocess.std, np.float32)[:, None, None]
    off: NDArray[np.float32] = np.abs(got - normalize(pixels, preprocess)) * std * np.float32(255)
    return off


def _input_faults(outputs: SplitOutputs) -> list[str]:
    if np.isfinite(outputs.largest) and outputs.largest <= 2 * LEVEL + 1e-2 and outputs.beyond <= RARE:
        return []
    share = f"{100 * outputs.beyond:.2g} % of the values by more than 1"
    return [f"an input differs by {outputs.largest:.1f}/255, {share}, allowed is 1"]
