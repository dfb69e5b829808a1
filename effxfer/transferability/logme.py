"""LogME: how well features explain labels, on average over all linear models (You et al., 2021, arXiv 2102.11005).

https://arxiv.org/abs/2102.11005. Shape legend: N images, D features, K singular values.
"""

import math

import numpy as np
from numpy.typing import NDArray

STEPS = 100
TOLERANCE = 1e-9


def logme(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    """Give the log of the maximum evidence of one-against-rest linear regression, per image, meaned over classes.

    Args:
        features_ND: Of a backbone, one row per image.
        labels_N: Indices of classes.

    Returns:
        At most about 1; larger is better. Comparable between backbones on the same images only.
    """
    left_NK, singular_K, _ = np.linalg.svd(features_ND, full_matrices=False)
    found = [
        evidence(left_NK, singular_K**2, (labels_N == label).astype(float), features_ND.shape[1])
        for label in np.unique(labels_N)
    ]
    return float(np.mean(found))


def evidence(
    left_NK: NDArray[np.float64], squares_K: NDArray[np.float64], y_N: NDArray[np.float64], width: int
) -> float:
    """Give the log evidence per image of `y ~ N(F w, 1/beta)`, `w ~ N(0, 1/alpha)`, at its best alpha and beta.

    MacKay's fixed point: gamma effective weights, of which alpha is the precision, and beta that of what is left.

    Args:
        left_NK: Left singular vectors of F.
        squares_K: Squared singular values of F.
        y_N: What is to be explained.
        width: D, of F.
    """
    n, along_K = len(y_N), (left_NK.T @ y_N) ** 2
    outside = max(float(y_N @ y_N - along_K.sum()), 0.0)
    alpha = beta = 1.0
    for _ in range(STEPS):
        gamma = float((beta * squares_K / (alpha + beta * squares_K)).sum())
        weights, rest = _weights(alpha, beta, squares_K, along_K), _rest(alpha, beta, squares_K, along_K, outside)
        before, alpha, beta = alpha / beta, gamma / max(weights, 1e-12), (n - gamma) / max(rest, 1e-12)
        if abs(alpha / beta - before) <= TOLERANCE * before:
            break
    weights, rest = _weights(alpha, beta, squares_K, along_K), _rest(alpha, beta, squares_K, along_K, outside)
    volume = float(np.log(alpha + beta * squares_K).sum()) + (width - len(squares_K)) * math.log(alpha)
    told = width * math.log(alpha) + n * math.log(beta / (2 * math.pi)) - volume - beta * rest - alpha * weights
    return told / (2 * n)


def _weights(alpha: float, beta: float, squares_K: NDArray[np.float64], along_K: NDArray[np.float64]) -> float:
    """Squared norm of the most likely weights."""
    return float((beta**2 * squares_K * along_K / (alpha + beta * squares_K) ** 2).sum())


def _rest(
    alpha: float, beta: float, squares_K: NDArray[np.float64], along_K: NDArray[np.float64], outside: float
) -> float:
    """Squared error of the most likely weights."""
    return float((along_K * (alpha / (alpha + beta * squares_K)) ** 2).sum()) + outside
