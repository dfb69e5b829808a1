"""Report what exported files decide on the validation split, and keep pictures of their mistakes."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.artifact import Artifact
from effxfer.data.task import Task
from effxfer.deploy.decisions.by_class import ClassCounts, confusions
from effxfer.deploy.decisions.calibration import calibration_error, reliability
from effxfer.deploy.decisions.mistakes import Mistake, contact_sheet, find_mistakes
from effxfer.errors import ModelFileError
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.softmax import softmax
from effxfer.stages.settings.common import CLASSES, PICTURES

SPLIT = "val"
DIAGONAL = Curve(
    title="Calibration on val", name="as certain as right", x="confidence, %", y="accuracy, %",
    points=((0.0, 0.0), (100.0, 100.0)),
)  # fmt: skip


def report_decisions(
    folder: Path, logits: Mapping[str, NDArray[np.float32]], task: Task, *, images: bool
) -> Report:  # fmt: skip
    """Report the decisions of exported files by class, their calibration and their mistakes; write files for the page.

    Args:
        folder: Receives `classes.json`, right decisions by class, and `mistakes.jpg`.
        logits: `(N, C)` of the validation split by precision, that of the file to ship last.
        task: Only single labels with two or more classes are reported.
        images: Whether to keep pictures of mistakes.

    Returns:
        `worst class/val/PRECISION` and `calibration error/val/PRECISION`; tables of the classes, the confusions and
        the mistakes of the last file, and a curve of the calibration of each.
    """
    output, val = task.output, task.val
    if not isinstance(output, SingleLabel) or output.width < 2 or not logits:
        return Report()
    counts, unit = ClassCounts.of(output, val.labels, logits), task.input.unit
    (folder / CLASSES).write_text(json.dumps({"split": SPLIT, **counts.to_json()}))
    shipped, first = list(logits)[-1], next(iter(logits))
    mistakes = find_mistakes(output, val.labels, logits[shipped], logits[first])
    tables = [
        counts.table(SPLIT, unit),
        confusions(
            output.classes, val.labels, output.decide(logits[shipped]), f"Confusions of {shipped} on {SPLIT}", unit
        ),
    ]  # fmt: skip
    if mistakes:
        tables.append(_mistake_table(mistakes, task, shipped, first))
    if mistakes and images and task.input.kind == "image":
        (folder / PICTURES).write_bytes(contact_sheet([np.asarray(val.rows[each.row]) for each in mistakes]))
    report = Report(rows=tuple(counts.worst_rows(SPLIT, unit)), tables=tuple(tables))
    return report + _calibration(output, logits, val.labels, unit)


def class_counts(artifact: Artifact) -> ClassCounts | None:
    """Read the right decisions of an export's files by class; None where there are none.

    Raises:
        ModelFileError: If the file is damaged.
    """
    if CLASSES not in artifact.manifest.files:
        return None
    file = artifact.path / CLASSES
    try:
        return ClassCounts.from_json(json.loads(file.read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as error:
        raise ModelFileError(f"{file} is damaged: {error}", "export the model again") from None


def _calibration(
    output: SingleLabel, logits: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], unit: str
) -> Report:
    rows, curves = list[Measurement](), [DIAGONAL]
    for name, raw in logits.items():
        confidence = np.nan_to_num(softmax(raw).max(1))
        bins = reliability(confidence, output.correct(raw, labels))
        error = calibration_error(bins)
        rows.append(
            Measurement(name=f"calibration error/{SPLIT}/{name}", value=error, unit="points", n=len(labels), of=unit)
        )  # fmt: skip
        points = tuple((each.confidence, each.accuracy) for each in bins)
        curves.append(Curve(title=DIAGONAL.title, name=name, x=DIAGONAL.x, y=DIAGONAL.y, points=points))
    return Report(rows=tuple(rows), curves=tuple(curves))


def _mistake_table(mistakes: list[Mistake], task: Task, shipped: str, first: str) -> Table:
    rows = tuple(
        {
            "number": number,
            task.input.unit[:-1]: task.val.names[each.row],
            "class": task.classes[each.label],
            "taken for": task.classes[each.predicted],
            "confidence %": each.confidence,
            **({f"{first} is right": "yes" if each.flipped else "no"} if first != shipped else {}),
        }
        for number, each in enumerate(mistakes, 1)
    )
    return Table(title=f"Mistakes of {shipped} on {SPLIT}", rows=rows)
