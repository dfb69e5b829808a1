"""Nearest neighbours: leave-one-out accuracy of a kNN classifier on features (Cover & Hart, 1967).

https://doi.org/10.1109/TIT.1967.1053964. Shape legend: N images, D features.
"""

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5  # chosen: odd, and no more than few images of a class


def neighbours(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    """Return the percentage of images whose class wins the vote of their five nearest neighbours by cosine.

    Args:
        features_ND: Features of a backbone, one row per image.
        labels_N: Indices of classes.

    Returns:
        In [0, 100]; larger is better. A tie goes to the class of the nearest.
    """
    unit = features_ND / np.maximum(np.linalg.norm(features_ND, axis=1, keepdims=True), np.finfo(float).tiny)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(unit) - 1)]
    votes = np.zeros((len(unit), int(labels_N.max()) + 1))
    for rank, column in enumerate(nearest.T):
        # Added shares of a vote, 1/32 and halves of it, add up to less than 1/16: they
        # only break ties, for the nearest.
        votes[np.arange(len(unit)), labels_N[column]] += 1 + 2.0 ** -(rank + NEIGHBOURS)
    return 100 * float((votes.argmax(1) == labels_N).mean())
