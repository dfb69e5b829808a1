"""Right decisions of exported files, class by class: a mean over all classes hides the class that pays.

Compressed networks lose most on few classes (Hooker et al., 2019, https://arxiv.org/abs/1911.05248).

Shape legend: N examples, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.decisions.wilson import wilson
from effxfer.report import Measurement, Table
from effxfer.runtime.outputs.single_label import SingleLabel

# Chosen: what a person reads. All classes are in the file that `to_json` writes.
SHOWN_CLASSES = 20
SHOWN_CONFUSIONS = 15
MATRIX = 10  # classes up to which the whole matrix fits on a page, and in a terminal

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCounts:
    """Right decisions of files on the same examples.

    Attributes:
        classes: Names of the C classes.
        counts: Examples of each class, int64 `(C,)`.
        hits: Right decisions for each class by name of the file, int64 `(C,)` each.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    hits: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(cls, output: SingleLabel, labels: NDArray[np.int64], logits: Mapping[str, Logits]) -> Self:
        """Count the decisions of files.

        Args:
            output: Its classes are those of the labels; without names, classes have their numbers.
            labels: int64 `(N,)`.
            logits: `(N, C)` by name of the file.
        """
        classes = output.classes or tuple(map(str, range(next(iter(logits.values())).shape[1])))
        width = len(classes)
        hits = {name: np.bincount(labels[output.correct(raw, labels)], minlength=width) for name, raw in logits.items()}
        return cls(classes=classes, counts=np.bincount(labels, minlength=width), hits=hits)

    def accuracy(self, name: str) -> NDArray[np.float64]:
        """Return the accuracy of a file for each class in percent, `(C,)`; NaN for classes without examples."""
        with np.errstate(invalid="ignore"):
            result: NDArray[np.float64] = 100 * self.hits[name] / self.counts
        return result

    def worst(self, name: str) -> int:
        """Return the class that a file knows least, of those with examples; of equal ones the most frequent."""
        order = np.lexsort((-self.counts, self.accuracy(name)))
        return int(next(i for i in order if self.counts[i]))

    def largest_drop(self, before: str, after: str) -> tuple[float, int]:
        """Return the largest loss of a class from one file to another in points, and the class; 0 without examples."""
        drops = np.nan_to_num(self.accuracy(before) - self.accuracy(after))
        largest = int(drops.argmax())
        return float(drops[largest]), largest

    def worst_rows(self, split: str, unit: str) -> Iterator[Measurement]:
        """Yield the accuracy of each file's worst class, with its interval of 95 %."""
        for name in self.hits:
            worst = self.worst(name)
            hits, count = int(self.hits[name][worst]), int(self.counts[worst])
            low, high = wilson(hits, count)
            yield Measurement(
                name=f"worst class/{split}/{name}", value=100 * hits / count, unit="%", low=low, high=high, n=count,
                of=f"{unit} of {self.classes[worst]}",
            )  # fmt: skip

    def table(self, split: str, unit: str) -> Table:
        """Return the accuracies of the classes that the last file knows least, or has lost most of."""
        first, last = next(iter(self.hits)), list(self.hits)[-1]
        accuracies = {name: self.accuracy(name) for name in self.hits}
        drops = accuracies[first] - accuracies[last]
        order = [i for i in np.lexsort((-np.nan_to_num(drops), accuracies[last])) if self.counts[i]]
        rows = tuple(
            {
                "class": self.classes[i],
                unit: int(self.counts[i]),
                **{f"{name} %": float(accuracies[name][i]) for name in self.hits},
                **({"drop, points": float(drops[i])} if first != last else {}),
            }
            for i in order[:SHOWN_CLASSES]
        )
        few = f", the {SHOWN_CLASSES} lowest of {len(order)}" if len(order) > SHOWN_CLASSES else ""
        return Table(title=f"Accuracy by class on {split}{few}", rows=rows)

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        hits = {name: each.tolist() for name, each in self.hits.items()}
        return {"classes": list(self.classes), "counts": self.counts.tolist(), "right": hits}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_json`.

        Raises:
            ValueError: If numbers of classes differ, or a number is impossible.
        """
        classes, counts = tuple(map(str, values["classes"])), np.asarray(values["counts"], np.int64)
        hits = {str(name): np.asarray(each, np.int64) for name, each in values["right"].items()}
        for name, each in hits.items():
            if not each.shape == counts.shape == (len(classes),) or (each < 0).any() or (each > counts).any():
                raise ValueError(f"{name} has other classes, or more right decisions than examples")
        return cls(classes=classes, counts=counts, hits=hits)


def confusions(
    classes: Sequence[str], labels: NDArray[np.int64], predicted: NDArray[np.int64], title: str, unit: str
) -> Table:  # fmt: skip
    """Return the confusion matrix of few classes, or the most frequent confusions of many.

    Args:
        classes: Names of the C classes.
        labels: int64 `(N,)`.
        predicted: int64 `(N,)`.
        title: Title of the table.
        unit: What the examples are.
    """
    width = len(classes)
    matrix = np.bincount(labels * width + predicted, minlength=width * width).reshape(width, width)
    if width <= MATRIX:
        columns = unique_names(classes)
        rows = tuple(
            {"class": name, **{f"as {columns[j]}": int(matrix[i, j]) for j in range(width)}}
            for i, name in enumerate(classes)
        )
        return Table(title=title, rows=rows)
    counts = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:SHOWN_CONFUSIONS]
    pairs = [divmod(int(place), width) for place in order if matrix.flat[place]]
    return Table(
        title=f"{title}, the most frequent",
        rows=tuple(
            {
                "class": classes[i], "taken for": classes[j], unit: int(matrix[i, j]),
                "share of the class %": float(100 * matrix[i, j] / counts[i]),
            }
            for i, j in pairs
        ),
    )  # fmt: skip


def unique_names(classes: Sequence[str]) -> list[str]:
    """Return names that differ, as the columns of a table must: equal ones get their number."""
    names = list(classes)
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
