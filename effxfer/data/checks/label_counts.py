"""Count the labels of each split for the report of an audit."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.arrays import label_array
from effxfer.data.listing import SPLITS, Listing
from effxfer.report import Measurement, Table
from effxfer.runtime.outputs.multi_label import UNKNOWN


def measure_balance(listing: Listing) -> list[Measurement]:
    """Measure how labels are distributed over the training examples.

    Returns:
        `single`: the ratio of examples between the largest and the smallest class. `multi`: the mean number of labels
        of an example. Nothing for values, or without training examples.
    """
    train = listing.split("train")
    if not train or listing.labels == "value":
        return []
    if listing.labels == "multi":
        mean = sum(item.label.count("1") for item in train) / len(train)
        return [Measurement(name=f"labels per {listing.unit[:-1]}", value=mean, n=len(train))]
    sizes = Counter(item.label for item in train)
    return [Measurement(name="imbalance", value=max(sizes.values()) / min(sizes.values()), unit="x", n=len(sizes))]


def label_table(listing: Listing) -> Table:
    """List how often each label occurs in each split, or how each value is distributed."""
    if listing.labels == "single":
        return _class_table(listing)
    labels = {
        split: label_array(listing.labels, [item.label for item in listing.split(split)], listing.classes)
        for split in SPLITS
    }
    return _flag_table(listing, labels) if listing.labels == "multi" else _value_table(listing, labels)


def _class_table(listing: Listing) -> Table:
    counts = Counter((item.label, item.split) for item in listing.items)
    return Table(
        title=f"{listing.unit} by class",
        rows=tuple({"class": c} | {split: counts[c, split] for split in SPLITS} for c in listing.classes),
    )


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
