"""What kinds of label for the positions of a text have in common.

Shape legend: N rows (a text, or a window of a long one), L positions of the longest row, C columns of the head.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import DRAWS, Labels

# Below any logit of an intact network, and its square is no infinity of float32.
HIDDEN = -1e6


@dataclass(frozen=True, eq=False)
class PositionLabels(ABC):
    """Labels of the positions of N rows; rows are selected as those of an array are.

    Attributes:
        groups: Number of the text that each row is of, int64 `(N,)`; windows of a long text have the same.
    """

    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.groups)

    @abstractmethod
    def __getitem__(self, rows: Any, /) -> Self:
        """Select rows by a slice, by indices `(M,)` or by a mask `(N,)`."""

    @abstractmethod
    def restrict(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return outputs `(N, L, C)` without what takes no part in a decision, such as the question's positions."""


def restrict_outputs(raw: NDArray[np.float32], labels: Labels | PositionLabels) -> NDArray[np.float32]:
    """Return outputs without positions that take no part in decisions; those for whole examples as they are."""
    return labels.restrict(raw) if isinstance(labels, PositionLabels) else raw


def finite_rows(raw: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which rows of outputs `(N, L, C)` have neither NaN nor infinity, `(N,)`."""
    finite: NDArray[np.bool_] = np.all(np.isfinite(raw), axis=(1, 2))
    return finite


def select_texts(labels: Labels | PositionLabels, count: int) -> NDArray[np.int64]:
    """Return the rows of about `count` examples, spread evenly; of a text that has several rows, all of them."""
    groups = labels.groups if isinstance(labels, PositionLabels) else np.arange(len(labels))
    texts = np.unique(groups)
    chosen = texts[np.unique(np.linspace(0, len(texts) - 1, count).astype(int))]
    return np.flatnonzero(np.isin(groups, chosen))


def count_texts(labels: Labels | PositionLabels) -> int:
    """Return the number of examples; the windows of a long text are one."""
    return len(np.unique(labels.groups)) if isinstance(labels, PositionLabels) else len(labels)


def bootstrap_counts(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Estimate the deviation, in points, of the difference of two micro-averaged F1 by drawing texts anew.

    Args:
        before: Of each text, the right entities, the predicted ones and the true ones of one network, `(texts, 3)`.
        after: Those of the other network.
    """
    # Always the same draws: a gate must not pass at the second try.
    rng, size = np.random.default_rng(0), len(before)
    draws = (rng.integers(0, size, size) for _ in range(DRAWS))
    return float(np.std([f1_of(before[texts].sum(0)) - f1_of(after[texts].sum(0)) for texts in draws]))


def f1_of(counts: NDArray[Any]) -> float:
    """Return F1 in points of right, predicted and true entities `(3,)`; 100 where there are none at all.

    >>> f1_of(np.array([1, 2, 2])), f1_of(np.array([0, 0, 0])), f1_of(np.array([0, 1, 0]))
    (50.0, 100.0, 0.0)
    """
    right, predicted, true = map(float, counts)
    return 200 * right / (predicted + true) if predicted + true else 100.0
