"""Numbers for each example, in the user's unit: R squared and mean absolute error.

Shape legend: N examples, K values.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Labels, Score, bootstrap_deviation

TOLERANCE = 0.02  # of a deviation: two networks agree on a value that differs by less


@dataclass(frozen=True, kw_only=True)
class Regression:
    """One or more numbers; its labels are float32 `(N, K)`, NaN where unknown. The network gives standardised values.

    Attributes:
        classes: Names of the values, in the order of the head's columns.
        mean: Mean of each value over the training examples.
        deviation: Standard deviation of each value over the training examples; above 0.
    """

    kind: ClassVar[str] = "value"
    metric: ClassVar[str] = "R2"
    title: ClassVar[str] = "R2"
    per: ClassVar[Literal["example", "position"]] = "example"

    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Number of values."""
        return len(self.classes)

    def score(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> Score:
        """Return the mean over the values of 100 R squared, at least -100 each; see `Output.score`."""
        return Score(
            metric=self.metric, value=100 * float(np.mean(r_squared(self.values(raw), labels))), n=len(labels), of=of
        )

    def scores(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> tuple[Score, ...]:
        """Return R squared, and the mean absolute error of each value in its unit."""
        errors = np.nanmean(np.abs(self.values(raw) - labels), axis=0)
        names = ["mean absolute error", *(f"mean absolute error {name}" for name in self.classes)]
        each = names[1:] if len(errors) > 1 else names[:1]
        rows = (
            Score(metric=n, value=float(e), n=len(labels), of=of, unit="") for n, e in zip(each, errors, strict=True)
        )
        return self.score(raw, labels, of), *rows

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels) -> float:
        """Estimate the deviation of the difference of two scores by the bootstrap over examples."""
        return bootstrap_deviation(self, before, after, labels)

    def decide(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the values in steps of 2 % of their deviation, int64 `(N, K)`."""
        # Beyond any value of an intact network, and within int64 when divided by 0.02.
        finite = np.nan_to_num(raw, nan=1e9, posinf=1e9, neginf=-1e9)
        return np.round(finite / TOLERANCE).astype(np.int64)

    def fit_decision(self, raw: NDArray[np.float32], labels: Labels) -> "Regression":
        """Return itself: there is nothing to choose."""
        return self

    def values(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Undo the standardisation: the values in their units, `(N, K)`."""
        deviation, mean = np.asarray(self.deviation or 1.0), np.asarray(self.mean or 0.0)
        result: NDArray[np.float64] = raw.astype(np.float64) * deviation + mean
        return result

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return `values`."""
        return self.values(raw)

    def from_answers(self, answers: NDArray[Any]) -> NDArray[np.float32]:
        """Return the standardised values."""
        deviation, mean = np.asarray(self.deviation or 1.0), np.asarray(self.mean or 0.0)
        raw: NDArray[np.float32] = ((answers.astype(np.float64) - mean) / deviation).astype(np.float32)
        return raw

    def of_answers(self) -> "Regression":
        """Return the same output for a network that gives the values in their units."""
        return replace(self, mean=(0.0,) * self.width, deviation=(1.0,) * self.width)

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        numbers = {"mean": list(self.mean), "deviation": list(self.deviation)}
        return {"kind": self.kind, "classes": list(self.classes), **numbers}


def r_squared(values: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Return the share of each value's variance that is explained, in [-1, 1], `(K,)`.

    Below -1 is cut off: a network that diverged is as bad as one that gives twice the variance. A value with NaN or
    infinity among the predictions of judged examples has -1; one that never varies has 1 where it is met, else -1.

    Args:
        values: Predictions `(N, K)`.
        labels: True values `(N, K)`, NaN where unknown.
    """
    return np.array([_r_squared(values[:, k], labels[:, k]) for k in range(values.shape[1])])


def _r_squared(predicted: NDArray[np.float64], labels: Labels) -> float:
    judged = ~np.isnan(labels)
    predicted, truth = predicted[judged], labels[judged].astype(np.float64)
    if not len(truth) or not np.isfinite(predicted).all():
        return -1.0
    residual, total = float(((predicted - truth) ** 2).sum()), float(((truth - truth.mean()) ** 2).sum())
    if total == 0:
        return 1.0 if residual == 0 else -1.0
    return max(-1.0, 1 - residual / total)
