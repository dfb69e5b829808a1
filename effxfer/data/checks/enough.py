"""Check that a data set has enough images for validation, testing and cross-validation."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from effxfer.data.listing import POSITION_KINDS, Finding, Item, LabelKind
from effxfer.data.task import Task
from effxfer.errors import DataError
from effxfer.runtime.outputs.positions import PositionLabels

# One article of questions cannot be cut: texts of it would be in two splits.
WHOLE_DOCUMENTS = "add documents, or texts of the split val: all texts of a document stay in one split"


def folds_need(unit: str) -> str:
    """Return what cross-validation needs, for messages."""
    return f"`rank` and `search` cross-validate on training {unit}s: at least one class needs two"


def check_size(
    items: Sequence[Item], kind: LabelKind = "single", unit: str = "image", split_findings: Sequence[Finding] = ()
) -> list[Finding]:
    """Warn (W313) about an empty test split, and about training images that are too few for cross-validation.

    An empty validation split is an error (`E313`): training, gates and searches choose by it.

    Args:
        items: With their final split; without any item there is no warning.
        kind: Kind of label.
        unit: What an item is, in the singular.
        split_findings: Findings of `assign`. Where it could not split a class, nothing is said of absent splits.
    """
    classes = Counter(item.label for item in items if item.split == "train")
    texts, absent = [], {"val", "test"} - {item.split for item in items} if classes else set()
    if any(finding.severity == "error" for finding in split_findings):
        absent = set()
    if "test" in absent:
        metric = "accuracy" if kind == "single" else "the score"
        texts.append(f"no test {unit}s: {metric} is reported on the validation split alone")
    if kind == "single" and classes and max(classes.values()) < 2:
        texts.append(f"one training {unit} of each class: {folds_need(unit)}")
    findings = [Finding(code="W313", severity="warning", path="", text=text) for text in texts]
    if "val" in absent:
        hint = WHOLE_DOCUMENTS if kind in POSITION_KINDS else f"add {unit}s of the split val"
        findings.append(Finding(code="E313", severity="error", path="", text=f"no validation {unit}s", hint=hint))
    return findings


def is_about_size(note: str) -> bool:
    """Whether a note is one of `check_size`, about a report on val in place of test, or about cross-validation."""
    return note.startswith(("W313 no test ", "W313 one training "))


def require_folds(task: Task) -> None:
    """Refuse cross-validation if every class has a single training image.

    Raises:
        DataError: `E313`.
    """
    # Folds of the other kinds need no classes.
    if task.output.kind == "single":
        require_repeats(task.train.labels, task.name, task.input.unit)


def require_repeats(labels: NDArray[np.int64], name: str, units: str) -> None:
    """Refuse single labels `(N,)`, -1 for none, of which every class has a single one.

    Raises:
        DataError: `E313`; `name` is that of the task, `units` what has labels.
    """
    if np.bincount(labels[labels >= 0]).max(initial=0) < 2:
        unit = units.removesuffix("s")
        problem = f"{name} has one training {unit} of each class: {folds_need(unit)}"
        raise DataError(problem, f"add {unit}s", code="E313")


def require_validation(task: Task) -> None:
    """Refuse a task without validation images, which early stopping, accuracy gates and searches need.

    Raises:
        DataError: `E313`.
    """
    if not len(task.val):
        units = task.input.unit
        problem = f"{task.name} has no readable validation {units.removesuffix('s')}"
        hint = f"repair the {units} of val, or add others"
        if isinstance(task.train.labels, PositionLabels):
            hint = WHOLE_DOCUMENTS
        raise DataError(problem, hint, code="E313")
