"""One class for each example: argmax of the logits, accuracy.

Shape legend: N examples, C classes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Labels, Score
from effxfer.runtime.outputs.largest_logit import LargestLogit


@dataclass(frozen=True, kw_only=True)
class SingleLabel(LargestLogit):
    """Exactly one of several classes for each example; its labels are int64 `(N,)`, indices into the classes.

    Attributes:
        classes: Class names, in the order of the head's columns.
    """

    kind: ClassVar[str] = "single"
    metric: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "accuracy"
    per: ClassVar[Literal["example", "position"]] = "example"

    classes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def score(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> Score:
        """Return the accuracy; see `Output.score`."""
        return Score(metric=self.metric, value=100 * float(self.correct(raw, labels).mean()), n=len(labels), of=of)

    def balanced_score(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> Score:
        """Return the mean over the classes of the share of their examples that are right."""
        value = 100 * float(recalls(self.decide(raw), labels).mean())
        return Score(metric="balanced accuracy", value=value, n=len(labels), of=f"{of}, all classes alike")

    def scores(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> tuple[Score, ...]:
        """Return the accuracy, and the balanced one where a class has twice the examples of another."""
        main, counts = self.score(raw, labels, of), np.unique(labels, return_counts=True)[1]
        # Of two classes, one up to twice the other: both accuracies differ by at most a sixth of the classes' gap.
        if not len(counts) or counts.max() < 2 * counts.min():
            return (main,)
        return main, self.balanced_score(raw, labels, of)

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        return {"kind": self.kind, "classes": list(self.classes)}


SINGLE_LABEL = SingleLabel()  # where the names of the classes do not matter


def recalls(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of each class's examples that are predicted as it, for the classes that occur, in their order.

    Args:
        predicted: Classes `(N,)`.
        labels: Classes `(N,)`; N at least 1.
    """
    counts = np.bincount(labels)
    hits = np.bincount(labels[predicted == labels], minlength=len(counts))
    present = counts > 0
    result: NDArray[np.float64] = hits[present] / counts[present]
    return result


def macro_f1(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the mean F1 of the classes that occur or are predicted, in [0, 1]; see `recalls` for arguments."""
    classes = int(max(predicted.max(), labels.max())) + 1
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    total = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    return float((2 * hits / np.maximum(total, 1))[total > 0].mean())
