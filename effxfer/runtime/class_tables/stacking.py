"""Calibrated stacking: lower known classes where new ones stand beside them (Chao et al., 2016).

https://arxiv.org/abs/1605.04253.

Shape legend: N examples, C classes.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def lower(outputs: Floats, lowered: Floats, *, probabilities: bool) -> Floats:
    """Lower logits by a number for each class.

    Args:
        outputs: Logits `(N, C)`, or probabilities of which they are the logarithm.
        lowered: `(C,)`; all alike change nothing.
        probabilities: Whether outputs are probabilities; then so is the result.
    """
    if not probabilities:
        return outputs - lowered
    # The largest is not below 1, so that no row becomes 0 throughout.
    weighted = outputs * np.exp(lowered.min() - lowered)
    result: Floats = weighted / weighted.sum(1, keepdims=True)
    return result
