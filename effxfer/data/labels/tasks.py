"""The labels of several tasks: from the texts of a listing to arrays, and to a task with fewer questions.

Shape legend: N examples, W columns of labels of all tasks together.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.arrays import label_array, output_of
from effxfer.data.labels.names import index_names
from effxfer.data.listing import Finding, LabelKind, Listing
from effxfer.data.task import Split, Task, subset
from effxfer.errors import DataError
from effxfer.runtime.multi_task.task_labels import TaskLabels
from effxfer.runtime.multi_task.task_outputs import BETWEEN, TaskOutputs, native_labels
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.multi_label import UNKNOWN
from effxfer.runtime.outputs.tagging import Tagging

Kinds = Mapping[str, LabelKind]


def split_texts(labels: Sequence[str], count: int) -> list[list[str]]:
    """Return the text of each task in labels of `cells.read_tasks`, `(tasks, N)`."""
    rows = [json.loads(label) if label else [""] * count for label in labels]
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]


def name_task_labels(
    labels: Sequence[str], kinds: Kinds, unit: str = "image"
) -> tuple[list[str], tuple[str, ...], list[Finding]]:
    """Number the names of several labels, and name the columns of all tasks.

    Args:
        labels: One for each example, of `cells.read_tasks`.
        kinds: Kind of label of each task.
        unit: What has the labels, in the singular.

    Returns:
        The labels with a character for each class of several labels; the names `TASK/CLASS`; findings.

    Raises:
        DataError: `E342` if several labels of a column cannot be told apart.
    """
    columns, classes, findings = list[list[str]](), list[str](), list[Finding]()
    for (name, kind), texts in zip(kinds.items(), split_texts(labels, len(kinds)), strict=True):
        names: Sequence[str] = [name] if kind == "value" else sorted(set(texts) - {""})
        if kind == "tags":
            names = sorted({tag for text in set(texts) - {""} for tag in json.loads(text)})
        if kind == "multi" and names:
            indexed = index_names([text for text in texts if text], _separator(texts), unit)
            texts, names = [indexed.texts[text] if text else "" for text in texts], indexed.classes
            findings += indexed.findings
        columns.append(texts)
        classes += [f"{name}{BETWEEN}{each}" for each in names]
    joined = [json.dumps(list(row), ensure_ascii=False) for row in zip(*columns, strict=True)]
    return joined, tuple(classes), findings


def _separator(texts: Sequence[str]) -> str | None:
    """Return the bar where a cell of it alone says that no label applies; None to find the separator."""
    return "|" if "|" in texts else None


def classes_of(task: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the class names of one task among the columns `TASK/CLASS`."""
    return tuple(name.removeprefix(task + BETWEEN) for name in classes if name.startswith(task + BETWEEN))


def task_arrays(labels: Sequence[str], classes: Sequence[str], kinds: Kinds) -> dict[str, NDArray[Any]]:
    """Return the labels of each task as its kind has them, `(N,)` or `(N, C)`; see `arrays.label_array`; not tags."""
    texts = split_texts(labels, len(kinds))
    return {
        name: label_array(kind, column, classes_of(name, classes))
        for (name, kind), column in zip(kinds.items(), texts, strict=True)
        if kind != "tags"
    }


def joined_array(labels: Sequence[str], classes: Sequence[str], kinds: Kinds) -> NDArray[np.float32]:
    """Return the labels of all tasks side by side, float32 `(N, W)`, NaN where unknown; tags are not among them."""
    arrays = task_arrays(labels, classes, kinds)
    none = np.empty((len(labels), 0), np.float32)
    return np.concatenate([none, *(as_numbers(kinds[name], array) for name, array in arrays.items())], 1)


def as_numbers(kind: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """Return the labels of one task, as its kind has them, as float32 `(N, W)`, NaN where unknown."""
    if kind == "value":
        return np.asarray(array, np.float32)
    missing = array == (-1 if kind == "single" else UNKNOWN)
    numbers = np.where(missing, np.nan, array).astype(np.float32)
    return numbers[:, None] if kind == "single" else numbers


def task_outputs(classes: Sequence[str], kinds: Kinds, train: NDArray[np.float32]) -> TaskOutputs:
    """Return the outputs of several tasks; `train` are the labels of the training examples, `(N, W)`.

    Raises:
        DataError: `E343` if a value is the same, or unknown, on all training examples.
    """
    outputs, start = dict[str, Output](), 0
    for name, kind in kinds.items():
        names = classes_of(name, classes)
        width = {"single": 1, "tags": 0}.get(kind, len(names))
        outputs[name] = output_of(kind, names, train[:, start : start + width])
        start += width
    return TaskOutputs(outputs=outputs)


def listed_labels(listing: Listing, labels: Sequence[str]) -> Any:
    """Return labels of a listing as an array; see `arrays.label_array`, and `joined_array` for several tasks."""
    if listing.tasks:
        return joined_array(labels, listing.classes, listing.tasks)
    return label_array(listing.labels, labels, listing.classes)


def listed_output(listing: Listing, train: Any) -> Output:
    """Return the output of a listing; see `arrays.output_of`, and `task_outputs` for several tasks."""
    if listing.tasks:
        numbers = train.numbers if isinstance(train, TaskLabels) else train
        return task_outputs(listing.classes, listing.tasks, numbers)
    return output_of(listing.labels, listing.classes, train)


def select_tasks(task: Task, names: Collection[str]) -> Task:
    """Return a task with some of its questions; with a single one, of the examples that have its label.

    Raises:
        DataError: If it has one question, or none of them.
    """
    output = task.output
    if not isinstance(output, TaskOutputs) or not set(names) & set(output.names):
        raise DataError(f"{task.name} has no tasks {', '.join(names)}", f"its tasks: {', '.join(task.classes)}")
    places = [
        column
        for name, place in output.label_columns().items()
        if name in names
        for column in range(place.start, place.stop)
    ]
    selected = output.select(names)
    chosen = tuple(name for name in output.names if name in names)
    train, val, test = (_select(split, places, selected, chosen) for split in (task.train, task.val, task.test))
    return replace(task, output=selected, train=train, val=val, test=test)


def _select(split: Split, places: Sequence[int], output: Output, names: Sequence[str]) -> Split:
    labels: Any = _select_labels(split.labels, places, output, names)
    # Examples of other tables have no label at all here; those of one table stay, with or without one.
    if isinstance(output, TaskOutputs) and split.tables is None:
        return replace(split, labels=labels)
    if isinstance(output, Tagging):
        tagged, tags = labels.of_words(names[0])
        return replace(subset(split, np.flatnonzero(tagged)), labels=tags, tables=None)
    labelled = np.flatnonzero(_is_labelled(labels))
    chosen = labels[labelled]
    if isinstance(output, TaskOutputs):
        return replace(subset(split, labelled), labels=chosen)
    return replace(subset(split, labelled), labels=native_labels(output, chosen), tables=None)


def _select_labels(labels: Any, places: Sequence[int], output: Output, names: Sequence[str]) -> Any:
    """Return the labels of some tasks: `TaskLabels` as long as one of them tags words."""
    numbers = (labels.numbers if isinstance(labels, TaskLabels) else labels)[:, places]
    if output.per == "example":
        return numbers
    tags = {name: each for name, each in labels.tags.items() if name in names}
    columns = output.word_columns() if isinstance(output, TaskOutputs) else {}
    return TaskLabels(labels.groups, numbers, tags, columns)


def _is_labelled(labels: Any) -> NDArray[np.bool_]:
    """Return which examples have a label of any task, `(N,)`."""
    numbers = labels.numbers if isinstance(labels, TaskLabels) else labels
    labelled: NDArray[np.bool_] = np.asarray(~np.isnan(numbers).all(1))
    for name in labels.tags if isinstance(labels, TaskLabels) else ():
        labelled |= labels.of_words(name)[0]
    return labelled
