"""Any number of classes for each example: a threshold for each class, mean average precision.

Shape legend: N examples, C classes.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Labels, Score, bootstrap_deviation
from effxfer.runtime.softmax import sigmoid

CERTAIN = 1e-12  # from 0 or 1: float32 rounds to 1 from 3e-8 on, and holds far smaller probabilities
UNKNOWN = 255  # the label of a class that nobody has judged on an example


@dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """Each class applies or does not; its labels are uint8 `(N, C)`: 1, 0, or 255 where unknown.

    Attributes:
        classes: Class names, in the order of the head's columns.
        thresholds: Logit of each class above which it applies; empty for 0, which is the probability 0.5.
    """

    kind: ClassVar[str] = "multi"
    metric: ClassVar[str] = "mAP"
    title: ClassVar[str] = "mAP"
    per: ClassVar[Literal["example", "position"]] = "example"

    classes: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def score(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> Score:
        """Return the mean average precision of the classes that apply to at least one example; see `Output.score`."""
        return Score(metric=self.metric, value=100 * mean_average_precision(raw, labels), n=len(labels), of=of)

    def scores(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> tuple[Score, ...]:
        """Return mAP, and the mean F1 of the classes at their thresholds."""
        f1 = Score(metric="macro F1", value=100 * macro_f1(self.decide(raw), labels), n=len(labels), of=of)
        return self.score(raw, labels, of), f1

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels) -> float:
        """Estimate the deviation of the difference of two scores by the bootstrap over examples."""
        return bootstrap_deviation(self, before, after, labels)

    def decide(self, raw: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which classes apply, bool `(N, C)`: those whose logit is above their threshold."""
        decided: NDArray[np.bool_] = raw > self.limits
        return decided

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each class, whatever the others are, `(N, C)`."""
        return sigmoid(raw)

    def from_answers(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of probabilities; those that were rounded to 0 or 1 are finite."""
        inner = np.clip(answers.astype(np.float64), CERTAIN, 1 - CERTAIN)
        logits: NDArray[np.float32] = np.log(inner / (1 - inner)).astype(np.float32)
        return logits

    def of_answers(self) -> "MultiLabel":
        """Return the same output with thresholds of probabilities."""
        return replace(self, thresholds=tuple(map(float, sigmoid(self.limits))))

    @property
    def limits(self) -> NDArray[np.float32]:
        """The thresholds, float32 `(C,)`; 0 where there are none."""
        return np.asarray(self.thresholds or (0.0,) * self.width, np.float32)

    def fit_decision(self, raw: NDArray[np.float32], labels: Labels) -> "MultiLabel":
        """Return the same output with the threshold of each class that has the best F1 on validation examples.

        A class without positive or without negative examples keeps the threshold 0.
        """
        columns = zip(raw.T, labels.T, strict=True)
        return replace(self, thresholds=tuple(round(_best_threshold(column, truth), 6) for column, truth in columns))

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        return {"kind": self.kind, "classes": list(self.classes), "thresholds": list(self.thresholds)}


def mean_average_precision(raw: NDArray[np.float32], labels: Labels) -> float:
    """Return the mean average precision over classes, in [0, 1].

    The average precision of a class is the mean, over the examples that it applies to, of the share of such examples
    among all that rank at least as high, as scikit-learn's `average_precision_score` has it. An example with NaN or
    infinity ranks last. Classes that apply to no judged example do not count.

    Args:
        raw: Outputs `(N, C)`.
        labels: 1, 0, or 255 where unknown, `(N, C)`.
    """
    raw = np.where(np.isfinite(raw).all(1, keepdims=True), raw, -np.inf)
    values = [_average_precision(raw[judged, c], labels[judged, c]) for c, judged in enumerate((labels != UNKNOWN).T)]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else 0.0


def macro_f1(applies: NDArray[np.bool_], labels: Labels) -> float:
    """Return the mean F1 over classes, in [0, 1]; a class that neither applies nor is predicted does not count.

    Args:
        applies: Predictions, bool `(N, C)`.
        labels: 1, 0, or 255 where unknown, `(N, C)`.
    """
    judged, positive = labels != UNKNOWN, labels == 1
    hits = (applies & positive).sum(0)
    total = (applies & judged).sum(0) + positive.sum(0)
    return float(np.mean(2 * hits[total > 0] / total[total > 0])) if (total > 0).any() else 0.0


def _average_precision(column: NDArray[np.float32], truth: Labels) -> float | None:
    positives = int((truth == 1).sum())
    if not positives:
        return None
    _, precision, hits = _cumulative(column, truth)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / positives)


def _cumulative(
    column: NDArray[np.float32], truth: Labels
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
    """Return the different outputs from the largest on, and precision and number of positives at each as a limit."""
    order = np.argsort(-column, kind="stable")
    column, hits = column[order], np.cumsum(truth[order] == 1)
    ends = np.flatnonzero(np.r_[column[1:] != column[:-1], True])  # equal outputs cannot be told apart
    return column[ends], hits[ends] / (ends + 1), hits[ends]


def _best_threshold(column: NDArray[np.float32], truth: Labels) -> float:
    column, truth = column[truth != UNKNOWN], truth[truth != UNKNOWN]
    positives = int((truth == 1).sum())
    if not 0 < positives < len(truth):
        return 0.0
    values, precision, hits = _cumulative(column, truth)
    # Where nothing is hit the precision is 0, and so are the hits.
    predicted = np.round(hits / np.maximum(precision, 1e-12))
    best = int(np.argmax(np.where(hits > 0, 2 * hits / (predicted + positives), 0)))
    if best + 1 == len(values):
        # All examples are to be above it: below the smallest output by more than float32 rounds and `round` cuts off.
        return float(values[best]) - 1e-3
    return float(values[best] + values[best + 1]) / 2  # half-way: as far as can be from both neighbours
