"""Calibration: whether a file that is certain to 90 % is right in 90 of 100 cases (Guo et al., 2017).

https://arxiv.org/abs/1706.04599.

Shape legend: N examples, B bins.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15  # the paper's


class Bin(NamedTuple):
    """The examples with confidences in one interval.

    Attributes:
        confidence: Mean confidence, in percent.
        accuracy: Share that is right, in percent.
        size: Examples.
    """

    confidence: float
    accuracy: float
    size: int


def reliability(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> list[Bin]:
    """Return the bins that hold examples, by increasing confidence; all have the same width.

    Args:
        confidence: Probability of each decision in [0, 1], `(N,)`.
        correct: Whether each decision is right, `(N,)`.
    """
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return [
        Bin(100 * float(confidence[chosen].mean()), 100 * float(correct[chosen].mean()), int(chosen.sum()))
        for chosen in (places == place for place in np.unique(places))
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error in points: the mean gap of confidence and accuracy over examples."""
    total = sum(each.size for each in bins)
    return sum(each.size * abs(each.confidence - each.accuracy) for each in bins) / total
