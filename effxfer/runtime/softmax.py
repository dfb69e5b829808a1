"""Probabilities from logits, without torch."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


def softmax(logits: NDArray[Float]) -> NDArray[Float]:
    """Turn logits `(..., C)` into probabilities whose sum over the last axis is 1."""
    # Less the maximum: float32's exponential overflows above 88.
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[Float] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[Float]) -> NDArray[Float]:
    """Turn logits of any shape into probabilities that are independent of each other."""
    # exp(-x) itself overflows below -88 in float32.
    probabilities: NDArray[Float] = np.exp(-np.logaddexp(logits.dtype.type(0), -logits))
    return probabilities
