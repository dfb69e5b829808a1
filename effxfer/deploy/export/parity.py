"""Check an exported file against torch: ONNX Runtime on the real validation split."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from effxfer.deploy.settings import TOLERANCE
from effxfer.errors import GateError, ModelFileError
from effxfer.report import Measurement, Report
from effxfer.runtime import session
from effxfer.runtime.inputs import Input
from effxfer.runtime.model import BATCH, Model, ModelError
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.runtime.session import session_options

# 1, 2: a fixed batch; 7: something that divides it; 32: kernels for larger batches.
BATCHES = (1, 2, 7, 32)
REJECTED = ".rejected"
# ONNX Runtime then takes kernels of unsigned weights, whose sums do not saturate without VNNI.
EXACT = {"session.x64quantprecision": "1"}
SIZE_IMAGES = 8  # chosen: the second size is about shapes, which one image shows as well


def open_model(file: Path, threads: int = 0, *, exact: bool = False) -> Model:
    """Open an exported file with `effxfer.runtime.Model`.

    Args:
        file: The model.
        threads: Threads of ONNX Runtime; 0 is one per core.
        exact: Whether x86 without VNNI adds 8-bit products without loss, like all other CPUs; slower.

    Raises:
        ModelFileError: If `Model` refuses it.
    """
    options = session_options(entries=EXACT if exact else {})
    try:
        return Model(file, threads=threads, options=options)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None


def onnx_outputs(
    file: Path, inputs: NDArray[Any], *, batch: int = BATCH, threads: int = 0, exact: bool = False
) -> NDArray[Any]:
    """Run any ONNX file on arrays for its first input.

    Args:
        file: The model, whoever wrote it.
        inputs: `(N, ...)` of the type and shape that the file takes, N at least 1.
        batch: Rows per call.
        threads: Threads of ONNX Runtime; 0 is one per core.
        exact: See `open_model`.

    Returns:
        The first output, `(N, ...)`.

    Raises:
        ModelFileError: If ONNX Runtime refuses the file (E424) or cannot run it on such arrays (E427).
    """
    options = session_options(threads=threads, entries=EXACT if exact else {})
    try:
        opened = session.open_session(file, options)
    except Exception as error:  # ONNX Runtime raises its own types
        raise ModelFileError(f"ONNX Runtime refuses {file}: {session.error_summary(error)}", code="E424") from error
    name, starts = opened.get_inputs()[0].name, range(0, len(inputs), batch)
    try:
        return np.concatenate([opened.run(None, {name: inputs[i : i + batch]})[0] for i in starts])
    except Exception as error:  # ONNX Runtime raises its own types, ValueError and RuntimeError
        text = f"{file.name} cannot run on {inputs.dtype} {inputs.shape}: {session.error_summary(error)}"
        raise ModelFileError(text, "pass arrays of the type and shape that the file takes", code="E427") from error


def onnx_logits(
    file: Path, rows: NDArray[Any], *, batch: int = BATCH, threads: int = 0, exact: bool = False
) -> NDArray[np.float32]:
    """Run an exported file over images.

    Args:
        file: The model.
        rows: uint8 `(N, S, S, 3)`, which the file's own preprocessing makes its input; arrays of any other type are
            the input itself, `(N, ...)`, of a file that anybody wrote.
        batch: Images per call.
        threads: Threads of ONNX Runtime; 0 is one per core.
        exact: See `open_model`.

    Returns:
        float32 `(N, classes)`.
    """
    if rows.dtype != np.uint8:
        return onnx_outputs(file, rows, batch=batch, threads=threads, exact=exact)
    return open_model(file, threads, exact=exact).logits(rows, batch=batch)


def torch_logits(
    module: nn.Module, rows: NDArray[np.uint8], input: Input, *, batch: int = BATCH
) -> NDArray[np.float32]:
    """Run a module in evaluation mode over images `(N, S, S, 3)`; give float32 `(N, classes)`."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(input.feed(rows[start : start + batch])).to(device)).float().cpu()
            for start in range(0, len(rows), batch)
        ]
    result: NDArray[np.float32] = torch.cat(parts).numpy()
    return result


def parity(
    file: Path,
    module: nn.Module,
    rows: NDArray[np.uint8],
    input: Input,
    batches: Sequence[int] = BATCHES,
    *,
    threads: int = 0,
) -> Report:
    """Compare ONNX Runtime with torch, image by image, at several batch sizes.

    Args:
        file: The exported file.
        module: What it was exported from, in evaluation mode.
        rows: uint8 `(N, S, S, 3)`, N at least 1; repeated where a batch is larger than N.
        input: The module's.
        batches: Batch sizes.
        threads: Threads of ONNX Runtime; 0 is one per core.

    Returns:
        `parity/batchB`: largest absolute difference of a logit (NaN if either side gave NaN), n images.
    """
    model, largest = open_model(file, threads), max(batches)
    # Repeated where there are fewer, so that every batch size is tested.
    images = np.resize(rows, (largest, *rows.shape[1:]))
    return Report(rows=tuple(_batch_row(model, module, images[:batch], input) for batch in batches))


def check(
    file: Path,
    module: nn.Module,
    rows: NDArray[np.uint8],
    labels: NDArray[np.int64],
    input: Input,
    *,
    output: Output = SINGLE_LABEL,
    max_drop: float = 1.0,
    tolerance: float = TOLERANCE,
    expected: NDArray[np.float32] | None = None,
    batches: Sequence[int] = BATCHES,
    sizes: Sequence[tuple[int, int]] = (),
    threads: int = 0,
) -> Report:
    """Accept an exported file, or rename it and raise.

    Args:
        file: The exported file.
        module: What it was exported from, in evaluation mode.
        rows: uint8 `(N, S, S, 3)`, the whole validation split.
        labels: int64 `(N,)`.
        input: The module's.
        output: The kind of the labels.
        max_drop: Points of the main metric that the file may lose against torch.
        tolerance: Largest difference of a logit, as a share of the largest logit (of 1, where all are smaller).
        expected: The module's logits `(N, classes)` on this split, if they are known; otherwise they are computed.
        batches: Batch sizes to compare.
        sizes: Other heights and widths to compare at, of a file whose sides are free.
        threads: Threads of ONNX Runtime; 0 is one per core.

    Returns:
        `parity/batchB`, `parity/sizeHxW` and `parity/split`: largest absolute difference of a logit, at each batch
        size, at other sizes of images and over the whole split; `parity/scale`: torch's largest absolute logit;
        `parity/agreement`: images of the split with the same decision, in percent; `METRIC/torch` and `METRIC/onnx`.

    Raises:
        GateError: With the figures; the file is renamed to `*.rejected`.
        ModelFileError: If the file cannot be opened at all; it is renamed too.
    """
    try:
        report = parity(file, module, rows, input, batches, threads=threads)
        report += _size_rows(file, module, rows, input, sizes, threads)
        got = onnx_logits(file, rows, threads=threads)
    except ModelFileError:
        reject(file)
        raise
    expected = torch_logits(module, rows, input) if expected is None else expected
    report += _split_rows(expected, got, labels, output)
    faults = [*_nan(got), *_parity_faults(report, tolerance), *drop_faults(report, max_drop, output)]
    problem, advice = "differs from the network it came from", "raise max_drop or tolerance only if you know why"
    reject_for(faults, file, problem, advice, code="E601")
    return report


def reject_for(faults: Sequence[str], file: Path, problem: str, advice: str, *, code: str) -> None:
    """Rename a file that has faults, and raise; do nothing without faults.

    Raises:
        GateError: With all faults.
    """
    if faults:
        reject(file)
        hint = f"the file was set aside as {file.name}{REJECTED}; {advice}"
        raise GateError(f"{file.name} {problem}: {'; '.join(faults)}", hint, code=code)


def reject(file: Path) -> Path:
    """Rename a rejected file; return its new path."""
    return file.replace(file.with_name(file.name + REJECTED)) if file.exists() else file


def drop_faults(
    report: Report, max_drop: float, output: Output = SINGLE_LABEL, sides: tuple[str, str] = ("torch", "onnx")
) -> list[str]:
    """Describe a drop of the main metric by more than `max_drop` points between two rows of a report; else empty."""
    before, after = (report[f"{output.metric}/{side}"] for side in sides)
    # 1e-9: points are differences of shares, whose last bits must not decide.
    if before.value - after.value <= max_drop + 1e-9:
        return []
    return [
        f"{output.title} fell by {before.value - after.value:.2f} points, from {before.value:.2f} % to "
        f"{after.value:.2f} % of {after.n} {after.of}, allowed are {max_drop:g}"
    ]


def _batch_row(model: Model, module: nn.Module, images: NDArray[np.uint8], input: Input) -> Measurement:
    batch = len(images)
    expected, got = torch_logits(module, images, input, batch=batch), model.logits(images, batch=batch)
    return Measurement(name=f"parity/batch{batch}", value=_distance(expected, got), n=batch)


def second_size(module: nn.Module, input: Input) -> tuple[int, int]:
    """Return a height and width other than the network's own, after a trial run.

    Raises:
        ModelFileError: If the network takes images of its own size only, with torch's reason, or pads by their size.
    """
    # Multiples of the usual stride; of two lengths, so that swapped axes show.
    height, width = input.size + 32, input.size + 64
    padding = [name for name, layer in module.named_modules() if type(layer).__name__.endswith("Same")]
    if padding:  # the exporter's symbols grow with each of them: it did not finish MobileNetV2 within 5 minutes
        problem = f"{padding[0]} and {len(padding) - 1} more layers pad by the size of what they get (timm's `same`)"
        raise ModelFileError(f"{problem}: that cannot be exported", "leave out dynamic_size", code="E426")
    problem, cause = f"the network does not take images of {height} x {width}", None
    try:
        answers = len(torch_logits(module, np.zeros((1, height, width, 3), np.uint8), input))
        reason = "" if answers == 1 else f"it gives {answers} answers for one"
    except Exception as error:  # a network says it in its own way: AssertionError, RuntimeError ...
        cause, reason = error, (str(error).strip() or type(error).__name__).splitlines()[0]
    if reason:
        raise ModelFileError(f"{problem}: {reason}", "leave out dynamic_size", code="E426") from cause
    return height, width


def _size_rows(
    file: Path,
    module: nn.Module,
    pixels: NDArray[np.uint8],
    input: Input,
    sizes: Sequence[tuple[int, int]],
    threads: int,
) -> Report:
    from PIL import Image

    rows, model = [], open_model(file, threads)
    for height, width in sizes:
        images = np.stack(
            [np.asarray(Image.fromarray(image).resize((width, height))) for image in pixels[:SIZE_IMAGES]]
        )
        expected = torch_logits(module, images, input)
        try:
            got = model.logits(images)
        except Exception as error:  # ONNX Runtime raises its own types
            problem = f"{file.name} does not take images of {height} x {width}, which the network takes"
            raise ModelFileError(problem, "leave out dynamic_size", code="E426") from error
        name = f"parity/size{height}x{width}"
        rows.append(Measurement(name=name, value=_distance(expected, got), n=len(images)))
    return Report(rows=tuple(rows))


def _split_rows(
    expected: NDArray[np.float32], got: NDArray[np.float32], labels: NDArray[np.int64], output: Output
) -> Report:
    # By decisions too: two networks may have the same accuracy on different images.
    agreed, n = output.decide(expected) == output.decide(got), len(labels)
    return Report(
        rows=(
            Measurement(name="parity/split", value=_distance(expected, got), n=n),
            Measurement(name="parity/scale", value=float(np.abs(expected).max()), n=n),
            Measurement(name="parity/agreement", value=100 * float(agreed.mean()), unit="%", n=n, of="images"),
            Measurement.from_score("torch", output.score(expected, labels)),
            Measurement.from_score("onnx", output.score(got, labels)),
        )
    )


def _distance(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    return float(np.abs(expected - got).max())


def _nan(logits: NDArray[np.float32]) -> list[str]:
    broken = int((~np.isfinite(logits)).any(1).sum())
    return [f"NaN or inf for {broken} of {len(logits)} images"] if broken else []


def _parity_faults(report: Report, tolerance: float) -> list[str]:
    rows = [row for row in report.rows if row.name.startswith(("parity/batch", "parity/size", "parity/split"))]
    worst = max(rows, key=lambda row: math.inf if math.isnan(row.value) else row.value)
    # Relative to the scale of logits; a correct export differs by 1e-5 at a scale of 16 (guide).
    allowed = tolerance * max(1.0, report["parity/scale"].value)
    if worst.value <= allowed:
        return []
    return [f"a logit differs by {worst.value:.3g} at {worst.name.removeprefix('parity/')}, allowed are {allowed:.3g}"]
