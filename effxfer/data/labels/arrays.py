"""The labels of a listing as arrays, and the output that they train.

Shape legend: N images, C classes, K values.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.cells import UNKNOWN
from effxfer.data.listing import LabelKind, first_names
from effxfer.errors import DataError
from effxfer.runtime.multi_task.task_outputs import BETWEEN
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.multi_label import UNKNOWN as UNKNOWN_FLAG
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.span import Span, SpanLabels
from effxfer.runtime.outputs.tagging import Tagging


def label_array(kind: LabelKind, labels: Sequence[str], classes: tuple[str, ...]) -> NDArray[Any]:
    """Return the labels of images as an array.

    Args:
        kind: Kind of label.
        labels: One for each image, as `cells` describes; an empty text for no label.
        classes: Names of the head's columns.

    Returns:
        `single` and `none`: int64 `(N,)`, -1 without a label; of `none` they are for reports alone. `multi`: uint8
        `(N, C)`, 255 where unknown. `value`: float32 `(N, K)`, NaN where unknown.
    """
    return ARRAYS[kind](labels, classes)


def output_of(kind: LabelKind, classes: tuple[str, ...], train: Any) -> Output:
    """Return the output of a task.

    Args:
        kind: Kind of label.
        classes: Names of the head's columns.
        train: Labels of the training examples, from which a value's mean and deviation are.

    Raises:
        DataError: `E343` if a value is the same, or unknown, on all training images.
    """
    if kind == "single":
        return SingleLabel(classes=classes)
    if kind == "none":
        # Folders may name classes, but only reports look at them: no head is for them.
        return SingleLabel()
    if kind == "tags":
        return Tagging(classes=classes)
    if isinstance(train, SpanLabels):
        # Without questions that have no answer, all are answered; else 0 until validation chooses.
        return Span(threshold=(0.0,) if np.all(train.answers < 0, axis=(1, 2)).any() else ())
    return MultiLabel(classes=classes) if kind == "multi" else _regression(classes, train)


def describe_label(kind: LabelKind, label: str, classes: Sequence[str]) -> str:
    """Return a label of a listing as a person writes it, for messages.

    >>> describe_label("multi", "1?0", ("beach", "dog", "sea"))
    'beach, ?dog'
    """
    if kind == "tasks":
        return _describe_tasks(label, classes)
    if kind != "multi":
        return label
    marks = {"1": "", UNKNOWN: UNKNOWN}
    names = [f"{marks[flag]}{name}" for name, flag in zip(classes, label, strict=True) if flag in marks]
    return first_names(names) or "no label"


def _describe_tasks(label: str, classes: Sequence[str]) -> str:
    names = dict.fromkeys(name.partition(BETWEEN)[0] for name in classes)
    texts = zip(names, json.loads(label), strict=False)
    return first_names([f"{name} {text:.60}" for name, text in texts if text]) or "no label"


def _indices(labels: Sequence[str], classes: tuple[str, ...]) -> NDArray[np.int64]:
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index.get(label, -1) for label in labels], np.int64)


def _flags(labels: Sequence[str], classes: tuple[str, ...]) -> NDArray[np.uint8]:
    text = "".join(label or UNKNOWN * len(classes) for label in labels)
    flags = np.frombuffer(text.encode(), np.uint8).reshape(len(labels), len(classes))
    return np.where(flags == ord(UNKNOWN), UNKNOWN_FLAG, flags - ord("0")).astype(np.uint8)


def _numbers(labels: Sequence[str], classes: tuple[str, ...]) -> NDArray[np.float32]:
    text = " ".join(label or "nan " * len(classes) for label in labels)
    return np.fromstring(text, np.float32, sep=" ").reshape(len(labels), len(classes))


def _regression(classes: tuple[str, ...], train: NDArray[np.float32]) -> Regression:
    columns = [column[~np.isnan(column)].astype(np.float64).tolist() for column in train.T]
    # `fsum` is exact: numpy's order of additions depends on the CPU.
    means = [math.fsum(column) / max(1, len(column)) for column in columns]
    squares = zip(columns, means, strict=True)
    deviations = [
        math.sqrt(math.fsum((x - mean) ** 2 for x in column) / max(1, len(column))) for column, mean in squares
    ]
    if constant := [name for name, column in zip(classes, columns, strict=True) if len(set(column)) < 2]:
        raise DataError(
            f"{first_names([repr(name) for name in constant])} has fewer than two different values in train",
            "correct or leave out the column; numbers are kept with seven digits", code="E343",
        )  # fmt: skip
    return Regression(classes=classes, mean=tuple(means), deviation=tuple(deviations))


ARRAYS: dict[LabelKind, Callable[[Sequence[str], tuple[str, ...]], NDArray[Any]]] = {
    "single": _indices, "multi": _flags, "value": _numbers, "none": _indices,
}  # fmt: skip
