"""Check an exported file against torch: the file in its runtime, on the real validation split."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from effxfer.deploy.export.image_sizes import SIZE_IMAGES, compare_sizes
from effxfer.deploy.export.logits import distance, onnx_logits, open_model, torch_logits
from effxfer.deploy.export.text_samples import text_samples, unequal_texts
from effxfer.deploy.settings import TOLERANCE
from effxfer.errors import GateError, ModelFileError
from effxfer.report import Measurement, Report, score_name
from effxfer.runtime.inputs import Input
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.multi_task.worst_task import main_scores
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.runtime.outputs.positions import PositionLabels, count_texts, restrict_outputs
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.runtime.rows import Ragged, Rows
from effxfer.runtime.session import ONNXRUNTIME

# 1, 2: a fixed batch; 7: something that divides it; 32: kernels for larger batches.
BATCHES = (1, 2, 7, 32)
REJECTED = ".rejected"


def parity(
    file: Path,
    module: nn.Module,
    rows: Rows,
    input: Input,
    batches: Sequence[int] = BATCHES,
    *,
    threads: int = 0,
    runtime: str = ONNXRUNTIME,
) -> Report:
    """Compare a file with torch, example by example, at several batch sizes; for texts also at several lengths.

    Args:
        file: The exported file.
        module: What it was exported from, in evaluation mode.
        rows: uint8 `(N, S, S, 3)` or `Ragged` ids, N at least 1; repeated where a batch is larger than N.
        input: The module's.
        batches: Batch sizes.
        threads: Threads of the runtime; 0 is one per core.
        runtime: See `Model`.

    Returns:
        `parity/batchB`: largest absolute difference of a logit (NaN if either side gave NaN), n examples; of texts
        `parity/lengthL`, and `parity/alone`: the file's largest difference between texts by themselves and in a batch.
    """
    model = open_model(file, threads, runtime=runtime)
    if isinstance(rows, Ragged):
        samples: dict[str, Rows] = {**text_samples(rows, batches, input.size)}
    else:
        # Repeated where there are fewer, so that every batch size is tested.
        images = rows[np.arange(max(batches)) % len(rows)]
        samples = {f"batch{batch}": images[:batch] for batch in batches}
    report = Report(rows=tuple(_sample_row(model, module, sample, input, name) for name, sample in samples.items()))
    return report + (compare_alone(model, rows, max(batches)) if isinstance(rows, Ragged) else Report())


def compare_alone(model: Model, rows: Ragged, count: int) -> Report:
    """Compare a file's outputs for texts by themselves with those for the same texts in one batch of unequal lengths.

    Args:
        model: The file.
        rows: Ids of a split.
        count: Texts.

    Returns:
        `parity/alone`: largest absolute difference of a logit.
    """
    texts = unequal_texts(rows, count)
    value = distance(model.logits(texts, batch=1), model.logits(texts, batch=count))
    return Report(rows=(Measurement(name="parity/alone", value=value, n=count),))


def check(
    file: Path,
    module: nn.Module,
    rows: Rows,
    labels: Labels,
    input: Input,
    *,
    output: Output = SINGLE_LABEL,
    max_drop: float = 1.0,
    tolerance: float = TOLERANCE,
    expected: NDArray[np.float32] | None = None,
    batches: Sequence[int] = BATCHES,
    sizes: Sequence[tuple[int, int]] = (),
    threads: int = 0,
    runtime: str = ONNXRUNTIME,
) -> Report:
    """Accept an exported file, or rename it and raise.

    Args:
        file: The exported file.
        module: What it was exported from, in evaluation mode.
        rows: uint8 `(N, S, S, 3)` or `Ragged` ids, the whole validation split.
        labels: The labels of the N examples.
        input: The module's.
        output: The kind of the labels.
        max_drop: Points of the main metric that the file may lose against torch.
        tolerance: Largest difference of a logit, as a share of the largest logit (of 1, where all are smaller).
        expected: The module's outputs `(N, C)` on this split, if they are known; otherwise they are computed.
        batches: Batch sizes to compare.
        sizes: Other heights and widths to compare at, of a file whose sides are free.
        threads: Threads of the runtime; 0 is one per core.
        runtime: What runs the file, see `Model`.

    Returns:
        `parity/batchB`, `parity/lengthL`, `parity/sizeHxW` and `parity/split`: largest absolute difference of a logit,
        at each batch size, each length of texts, other sizes of images and over the whole split; `parity/alone`: see
        `compare_alone`; `parity/scale`: torch's largest absolute logit; `parity/agreement`: examples of the split with
        the same decision, in percent; `METRIC/torch` and `METRIC/onnx`, of several tasks also `METRIC/onnx/TASK`.

    Raises:
        GateError: With the figures; the file is renamed to `*.rejected`.
        ModelFileError: If the file cannot be opened at all; it is renamed too.
    """
    try:
        report = parity(file, module, rows, input, batches, threads=threads, runtime=runtime)
        if sizes:
            report += compare_sizes(file, module, np.asarray(rows[:SIZE_IMAGES]), input, sizes, threads, runtime)
        got = onnx_logits(file, rows, threads=threads, runtime=runtime)
    except ModelFileError:
        reject(file)
        raise
    except ModelError as error:  # opened, but does not run
        reject(file)
        raise ModelFileError(error.problem, error.hint, code=error.code) from None
    expected = torch_logits(module, rows, input) if expected is None else expected
    report += _split_rows(expected, got, labels, output, input.unit)
    faults = [*_nan(got, input.unit), *_parity_faults(report, tolerance), *drop_faults(report, max_drop, output)]
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
    """Describe drops of the main metric by more than `max_drop` points between two rows of a report, of each task."""
    tasks = output.outputs if isinstance(output, TaskOutputs) else {"": output}
    faults = []
    for task, each in tasks.items():
        names = [score_name(each.metric, side, task) for side in sides]
        if report.get(names[0]) is None:
            continue  # auxiliary, or without labels here
        before, after = (report[name] for name in names)
        # 1e-9: points are differences of shares, whose last bits must not decide.
        if before.value - after.value > max_drop + 1e-9:
            faults.append(
                f"{f'task {task!r}: ' if task else ''}{each.title} fell by {before.value - after.value:.2f} points, "
                f"from {before.value:.2f} % to {after.value:.2f} % of {after.n} {after.of}, allowed are {max_drop:g}"
            )
    return faults


def agreement(
    output: Output, expected: NDArray[np.float32], got: NDArray[np.float32], labels: Labels | PositionLabels
) -> float:
    """Return the examples for which outputs `(N, C)` lead to the same decisions, in percent.

    Of outputs per position, those count that the labels say something about, and a long text all of whose windows
    agree.
    """
    expected, got = restrict_outputs(expected, labels), restrict_outputs(got, labels)
    agreed = output.decide(expected) == output.decide(got)
    rows = agreed.reshape(len(agreed), -1).all(1)
    differing = len(np.unique(labels.groups[~rows])) if isinstance(labels, PositionLabels) else int((~rows).sum())
    return 100 * (1 - differing / count_texts(labels))


def _sample_row(model: Model, module: nn.Module, sample: Rows, input: Input, name: str) -> Measurement:
    batch = len(sample)
    expected, got = torch_logits(module, sample, input, batch=batch), model.logits(sample, batch=batch)
    return Measurement(name=f"parity/{name}", value=distance(expected, got), n=batch)


def _split_rows(
    expected: NDArray[np.float32], got: NDArray[np.float32], labels: Labels, output: Output, unit: str
) -> Report:
    # By decisions too: two networks may have the same accuracy on different examples.
    agreed, n = agreement(output, expected, got, labels), count_texts(labels)
    return Report(
        rows=(
            Measurement(name="parity/split", value=distance(expected, got), n=n),
            Measurement(name="parity/scale", value=float(np.abs(expected).max()), n=n),
            Measurement(name="parity/agreement", value=agreed, unit="%", n=n, of=unit),
            *(Measurement.from_score("torch", each) for each in main_scores(output, expected, labels, unit)),
            *(Measurement.from_score("onnx", each) for each in main_scores(output, got, labels, unit)),
        )
    )


def _nan(logits: NDArray[np.float32], unit: str) -> list[str]:
    broken = int((~np.isfinite(logits)).reshape(len(logits), -1).any(1).sum())
    return [f"NaN or inf for {broken} of {len(logits)} {unit}"] if broken else []


def _parity_faults(report: Report, tolerance: float) -> list[str]:
    shares = ("parity/scale", "parity/agreement")
    rows = [row for row in report.rows if row.name.startswith("parity/") and row.name not in shares]
    worst = max(rows, key=lambda row: math.inf if math.isnan(row.value) else row.value)
    # Relative to the scale of logits; a correct export differs by 1e-5 at a scale of 16 (guide).
    allowed = tolerance * max(1.0, report["parity/scale"].value)
    if worst.value <= allowed:
        return []
    return [f"a logit differs by {worst.value:.3g} at {worst.name.removeprefix('parity/')}, allowed are {allowed:.3g}"]
