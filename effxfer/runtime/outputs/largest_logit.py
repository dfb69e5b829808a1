"""What outputs share whose decision is the column with the largest logit.

Shape legend: N examples or places, C columns.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Labels
from effxfer.runtime.softmax import softmax


class LargestLogit:
    """The part of an `Output` that follows from argmax; labels are int64 `(N,)`, indices of columns."""

    def correct(self, raw: NDArray[np.float32], labels: Labels) -> NDArray[np.bool_]:
        """Tell whether the largest logit of each row is its label's, `(N,)`; not where any is NaN or infinite."""
        result: NDArray[np.bool_] = (self.decide(raw) == labels) & np.isfinite(raw).all(1)
        return result

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels) -> float:
        """Return the root of the number of rows that exactly one network has right, in points (McNemar, 1947)."""
        discordant = int((self.correct(before, labels) != self.correct(after, labels)).sum())
        return 100 * float(np.sqrt(discordant)) / len(labels)

    def decide(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the column with the largest logit, int64 `(N,)`."""
        decided: NDArray[np.int64] = raw.argmax(1)
        return decided

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities whose sum is 1 in each row, `(N, C)`."""
        return softmax(raw)

    def from_answers(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities: the largest is that of the largest logit."""
        return answers

    def of_answers(self) -> Self:
        """Return itself: the largest logit is the largest probability."""
        return self

    def fit_decision(self, raw: NDArray[np.float32], labels: Labels) -> Self:
        """Return itself: there is nothing to choose."""
        return self
