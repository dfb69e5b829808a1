"""Generalised zero-shot learning: known and new classes side by side, with calibrated stacking (Chao et al., 2016).

https://arxiv.org/abs/1605.04253. Logits of known classes are lowered by a constant; the curve of accuracies over all
constants has an area, which no choice of the constant can improve.

Shape legend: N examples, K known classes, C known and new classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Of the range in which any decision changes; chosen: 201 constants place the best one to a half percent of it.
CONSTANTS = 201


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Logits of examples of known and of new classes.

    Attributes:
        seen_logits: Logits of examples of known classes, `(N, C)`; known classes come first.
        seen_labels: Their classes, int64 `(N,)`.
        unseen_logits: Logits of examples of new classes, `(M, C)`.
        unseen_labels: Their classes, int64 `(M,)`, from K upwards.
        known_count: K.
    """

    seen_logits: Floats
    seen_labels: NDArray[np.int64]
    unseen_logits: Floats
    unseen_labels: NDArray[np.int64]
    known_count: int

    def accuracies(self, constant: float) -> tuple[float, float]:
        """Return the accuracy of new and of known classes, each in percent, a mean over classes."""
        return (
            per_class_accuracy(self._lower(self.unseen_logits, constant), self.unseen_labels),
            per_class_accuracy(self._lower(self.seen_logits, constant), self.seen_labels),
        )

    def harmonic_mean(self, constant: float) -> float:
        """Return the harmonic mean of both accuracies, in percent."""
        return harmonic_mean(*self.accuracies(constant))

    def gaps(self) -> NDArray[np.float64]:
        """Return by how much the best known class leads the best new one, for each example: `(N + M,)`."""
        logits = np.concatenate([self.seen_logits, self.unseen_logits]).astype(np.float64)
        gaps: NDArray[np.float64] = logits[:, : self.known_count].max(1) - logits[:, self.known_count :].max(1)
        return gaps

    def curve(self) -> list[tuple[float, float]]:
        """Return accuracies of new and of known classes, from all examples being known to all being new."""
        gaps = self.gaps()
        # Beyond the ends no decision changes any more.
        ends = np.array([gaps.min() - 1, gaps.max() + 1])
        inner = np.quantile(gaps, np.linspace(0, 1, CONSTANTS))
        return [self.accuracies(float(constant)) for constant in np.unique(np.concatenate([ends[:1], inner, ends[1:]]))]

    def area(self) -> float:
        """Return the area under the curve, in percent of 100 by 100."""
        unseen_axis, seen_axis = np.array(self.curve()).T
        # From no new class recognised to as many as there can be; it falls in one and rises in the other.
        return float(np.trapezoid(seen_axis, unseen_axis)) / 100

    def _lower(self, logits: Floats, constant: float) -> NDArray[np.float64]:
        lowered = logits.astype(np.float64)
        lowered[:, : self.known_count] -= constant
        return lowered


def per_class_accuracy(logits: NDArray[np.float64] | Floats, labels: NDArray[np.int64]) -> float:
    """Return the mean over classes of the share of their examples whose largest logit `(N, C)` is their own."""
    correct = logits.argmax(1) == labels
    return 100 * float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))


def harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two percentages; 0 if one is 0.

    >>> harmonic_mean(60.0, 30.0)
    40.0
    """
    return 2 * first * second / (first + second) if first + second else 0.0


def best_constant(folds: list[Scored]) -> float:
    """Return the constant with the largest mean of harmonic means over folds; the middle one of equally good ones."""
    gaps = np.concatenate([fold.gaps() for fold in folds])
    constants = np.unique(np.quantile(gaps, np.linspace(0, 1, CONSTANTS)))
    means = np.array([np.mean([fold.harmonic_mean(float(constant)) for fold in folds]) for constant in constants])
    best = np.flatnonzero(means >= means.max() - 1e-9)
    return float(constants[best[len(best) // 2]])
