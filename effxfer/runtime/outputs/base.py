"""The question that a network answers: the kind of label, its metric, its decision and its answer; numpy only.

Training, gates, int8 quantization, search and the device call the same methods, so that they agree about what is right.

Shape legend: N examples, C columns of the head.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[Any]
BELOW_ALL = -101.0  # no score is as low: points are at least -100
DRAWS = 50  # of the bootstrap: a standard deviation within 10 % (1 / sqrt(2 * 50))


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric on some examples.

    Attributes:
        metric: Name of the metric, such as `accuracy`.
        value: In points: at most 100, larger is better, whatever the metric.
        n: Number of examples.
        of: What n counts, such as `images`.
        unit: `%` for points; empty for a number in the user's unit, which is never the main metric.
        task: Name of the task, where a network has several; empty for one, and for their mean.
    """

    metric: str
    value: float
    n: int
    of: str
    unit: str = "%"
    task: str = ""


class Output(Protocol):
    """One question to a network: one head, one output of the ONNX file, one kind of label, one metric.

    Attributes:
        kind: Name of the kind of label, as in `OUTPUTS`.
        metric: Name of the main metric, the first part of the names of report rows.
        title: The metric in tables and curves.
        per: Whether the network gives a row of outputs for each example, or for each position of it.
    """

    kind: ClassVar[str]
    metric: ClassVar[str]
    title: ClassVar[str]

    @property
    def per(self) -> Literal["example", "position"]:
        """Whether outputs are of each example, or of each position of it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the head's columns."""

    @property
    def width(self) -> int:
        """Number of the head's columns."""

    def score(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> Score:
        """Measure outputs by the main metric; an example with NaN or infinity among its outputs is wrong.

        Args:
            raw: The network's outputs, `(N, C)`; probabilities serve as well as logits.
            labels: The labels of the N examples.
            of: What the examples are.
        """

    def scores(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> tuple[Score, ...]:
        """Measure outputs by every metric that a report shows, the main one first; see `score` for arguments."""

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels) -> float:
        """Estimate the standard deviation, in points, of the difference of two networks' scores on the same examples.

        Args:
            before: Outputs `(N, C)` of one network.
            after: Outputs `(N, C)` of the other.
            labels: The labels of the N examples.
        """

    def decide(self, raw: NDArray[np.float32]) -> NDArray[Any]:
        """Turn outputs `(N, C)` into decisions `(N, ...)`, which are equal where two networks agree."""

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[Any]:
        """Turn outputs `(N, C)` into what a person reads: probabilities, or values in their unit."""

    def from_answers(self, answers: NDArray[Any]) -> NDArray[np.float32]:
        """Undo `to_answers` as far as `score` and `decide` need it."""

    def of_answers(self) -> Self:
        """Return the output of a network that gives what `to_answers` returns itself."""

    def fit_decision(self, raw: NDArray[np.float32], labels: Labels) -> Self:
        """Choose what decisions depend on, such as thresholds, on validation examples; see `score` for arguments."""

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with `kind`."""


def bootstrap_deviation(
    output: Output, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels
) -> float:
    """Estimate the standard deviation of the difference of two scores by drawing the examples anew, with replacement.

    For metrics that are no mean over examples (Efron, 1979, https://doi.org/10.1214/aos/1176344552).

    Args:
        output: Its `score` is measured.
        before: Outputs `(N, C)` of one network.
        after: Outputs `(N, C)` of the other.
        labels: The labels of the N examples.
    """
    # Always the same draws: a gate must not pass at the second try.
    rng, drops = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = rng.integers(0, len(labels), len(labels))
        drops.append(output.score(before[rows], labels[rows]).value - output.score(after[rows], labels[rows]).value)
    return float(np.std(drops))
