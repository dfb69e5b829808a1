"""LEEP: how well the source's classes predict those of the target (Nguyen et al., 2020, arXiv 2002.12462).

https://arxiv.org/abs/2002.12462. Shape legend: N images, Z source classes, C target classes.
"""

import numpy as np
from numpy.typing import NDArray


def leep(source_NZ: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    """Return the mean log-likelihood of labels under the expected empirical predictor.

    Args:
        source_NZ: Probabilities of the source's classes for each image; rows sum to 1.
        labels_N: Indices of the target's classes.

    Returns:
        At most 0; larger is better. Minus the labels' entropy if the source is independent of them.
    """
    classes, index_N = np.unique(labels_N, return_inverse=True)
    joint_CZ = np.zeros((len(classes), source_NZ.shape[1]))
    np.add.at(joint_CZ, index_N, source_NZ / len(labels_N))
    # A source class that never occurs has no column to divide.
    given_CZ = joint_CZ / np.maximum(joint_CZ.sum(0), np.finfo(float).tiny)
    likely_N = np.einsum("nz,nz->n", given_CZ[index_N], source_NZ)
    return float(np.log(np.maximum(likely_N, np.finfo(float).tiny)).mean())
