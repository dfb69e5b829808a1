"""Count the labels of each split for the report of an audit."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.arrays import label_array
from effxfer.data.labels.tasks import classes_of, split_texts
from effxfer.data.listing import POSITION_KINDS, SPLITS, Listing
from effxfer.report import Measurement, Table
from effxfer.runtime.outputs.entities import read_scheme
from effxfer.runtime.outputs.multi_label import UNKNOWN

EMPTY = "[]"  # the label of a question without an answer, see `data.texts.examples.label_name`


def measure_balance(listing: Listing) -> list[Measurement]:
    """Measure how labels are distributed over the training examples.

    Returns:
        `single`: the ratio of examples between the largest and the smallest class. `multi`: the mean number of labels
        of an example. `span`: the share of questions without an answer. Nothing for values, tags and tasks, or without
        training examples.
    """
    train = listing.split("train")
    if not train or listing.labels in ("tags", "tasks", "value"):
        return []
    if listing.labels == "span":
        share = 100 * sum(item.label == EMPTY for item in train) / len(train)
        return [Measurement(name="unanswerable", value=share, unit="%", n=len(train), of="training questions")]
    if listing.labels == "multi":
        mean = sum(item.label.count("1") for item in train) / len(train)
        return [Measurement(name=f"labels per {listing.unit[:-1]}", value=mean, n=len(train))]
    sizes = Counter(item.label for item in train)
    return [Measurement(name="imbalance", value=max(sizes.values()) / min(sizes.values()), unit="x", n=len(sizes))]


def label_table(listing: Listing) -> Table:
    """List how often each label occurs in each split, or how each value is distributed."""
    if listing.labels == "single":
        return _class_table(listing)
    if listing.labels in POSITION_KINDS:
        return _entity_table(listing) if listing.labels == "tags" else _question_table(listing)
    if listing.tasks:
        return _task_table(listing)
    labels = {
        split: label_array(listing.labels, [item.label for item in listing.split(split)], listing.classes)
        for split in SPLITS
    }
    return _flag_table(listing, labels) if listing.labels == "multi" else _value_table(listing, labels)


def _task_table(listing: Listing) -> Table:
    """Count the examples that have a label of each task, and the classes of the task."""
    texts = {split: split_texts([i.label for i in listing.split(split)], len(listing.tasks)) for split in SPLITS}
    return Table(
        title=f"{listing.unit} with a label by task",
        rows=tuple(
            {"task": name, "kind": kind, "columns": len(classes_of(name, listing.classes))}
            | {split: sum(map(bool, columns[number])) for split, columns in texts.items()}
            for number, (name, kind) in enumerate(listing.tasks.items())
        ),
    )


def _class_table(listing: Listing) -> Table:
    counts = Counter((item.label, item.split) for item in listing.items)
    return Table(
        title=f"{listing.unit} by class",
        rows=tuple({"class": c} | {split: counts[c, split] for split in SPLITS} for c in listing.classes),
    )


def _entity_table(listing: Listing) -> Table:
    """Count the entities of each type, or the words of each tag where tags mark no entities."""
    counts = {split: _tag_counts(listing, split) for split in SPLITS}
    scheme = read_scheme(listing.classes)
    names = scheme.types if scheme else listing.classes
    rows = ({"tag": name} | {split: count[name] for split, count in counts.items()} for name in names)
    return Table(title=f"{'entities' if scheme else 'words'} by {'type' if scheme else 'tag'}", rows=tuple(rows))


def _tag_counts(listing: Listing, split: str) -> Counter[str]:
    labels = [json.loads(item.label) for item in listing.split(split)]
    tags = [tag for label in labels for tag in label]
    scheme = read_scheme(listing.classes)
    if scheme is None:
        return Counter(tags)
    numbers = {tag: number for number, tag in enumerate(listing.classes)}
    texts = np.repeat(np.arange(len(labels)), [len(label) for label in labels])
    entities = scheme.find(np.array([numbers[tag] for tag in tags], np.int64), texts)
    return Counter(scheme.types[number] for number in entities.types.tolist())


def _question_table(listing: Listing) -> Table:
    """Count questions with and without an answer."""
    counts = Counter((item.label != EMPTY, item.split) for item in listing.items)
    names = {True: "with an answer", False: "without an answer"}
    rows = ({"questions": name} | {split: counts[flag, split] for split in SPLITS} for flag, name in names.items())
    return Table(title="questions by split", rows=tuple(rows))


def _flag_table(listing: Listing, labels: Mapping[str, NDArray[Any]]) -> Table:
    """Return the number of images that each label applies to, and of those where that is unknown if there are any."""
    counts = {split: (flags == 1).sum(0) for split, flags in labels.items()}
    unknown = {f"{split} unknown": (flags == UNKNOWN).sum(0) for split, flags in labels.items()}
    counts |= unknown if any(count.any() for count in unknown.values()) else {}
    rows = ({"label": c} | {n: int(count[i]) for n, count in counts.items()} for i, c in enumerate(listing.classes))
    return Table(title=f"{listing.unit} by label", rows=tuple(rows))


def _value_table(listing: Listing, labels: Mapping[str, NDArray[Any]]) -> Table:
    rows = [
        {"value": name, "split": split, **_distribution(values[:, column])}
        for column, name in enumerate(listing.classes)
        for split, values in labels.items()
        if len(values)
    ]
    return Table(title="values by split", rows=tuple(rows))


def _distribution(values: NDArray[np.float32]) -> dict[str, float | str]:
    numbers = values[~np.isnan(values)].astype(np.float64)
    low, middle, high = np.quantile(numbers, (0, 0.5, 1)).tolist() if len(numbers) else ("", "", "")
    return {"min": low, "median": middle, "max": high, "unknown": len(values) - len(numbers)}
