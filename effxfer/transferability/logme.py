"""LogME: evidence of the labels, integrated over all linear models of features (You et al., 2021, arXiv 2102.11005).

https://arxiv.org/abs/2102.11005. Shape legend: N images, D features, K singular values.
"""

import math

import numpy as np
from numpy.typing import NDArray

# The authors' code stops after 11 steps; to the end, equal scores mean equal evidence. It takes a few microseconds.
STEPS = 100
TOLERANCE = 1e-9


def logme(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    """Return the maximum log evidence of one-against-rest linear regression per image, averaged over classes.

    Args:
        features_ND: Features of a backbone, one row per image.
        labels_N: Indices of classes.

    Returns:
        At most about 1; larger is better. Comparable between backbones on the same images only.
    """
    left_NK, singular_K, _ = np.linalg.svd(features_ND, full_matrices=False)
    evidences = [
        evidence(left_NK, singular_K**2, (labels_N == label).astype(float), features_ND.shape[1])
        for label in np.unique(labels_N)
    ]
    return float(np.mean(evidences))


def evidence(
    left_NK: NDArray[np.float64], squares_K: NDArray[np.float64], y_N: NDArray[np.float64], width: int
) -> float:
    """Return the log evidence per image of `y ~ N(F w, 1/beta)`, `w ~ N(0, 1/alpha)`, at its best alpha and beta.

    MacKay's fixed point: gamma effective weights with the precision alpha, and residuals with the precision beta.

    Args:
        left_NK: Left singular vectors of F.
        squares_K: Squared singular values of F.
        y_N: Regression target.
        width: D, the number of features.
    """
    n, along_K = len(y_N), (left_NK.T @ y_N) ** 2
    # What no weights explain; rounding can make it negative.
    outside = max(float(y_N @ y_N - along_K.sum()), 0.0)
    alpha = beta = 1.0
    for _ in range(STEPS):
        gamma = float((beta * squares_K / (alpha + beta * squares_K)).sum())
        weights, residual = (
            _weight_norm(alpha, beta, squares_K, along_K),
            _residual(alpha, beta, squares_K, along_K, outside),
        )
        # Labels that are fitted exactly have no residual.
        before, alpha, beta = alpha / beta, gamma / max(weights, 1e-12), (n - gamma) / max(residual, 1e-12)
        if abs(alpha / beta - before) <= TOLERANCE * before:
            break
    weights, residual = (
        _weight_norm(alpha, beta, squares_K, along_K),
        _residual(alpha, beta, squares_K, along_K, outside),
    )
    volume = float(np.log(alpha + beta * squares_K).sum()) + (width - len(squares_K)) * math.log(alpha)
    log_evidence = (
        width * math.log(alpha) + n * math.log(beta / (2 * math.pi)) - volume - beta * residual - alpha * weights
    )
    return log_evidence / (2 * n)


def _weight_norm(alpha: float, beta: float, squares_K: NDArray[np.float64], along_K: NDArray[np.float64]) -> float:
    """Squared norm of the most likely weights."""
    return float((beta**2 * squares_K * along_K / (alpha + beta * squares_K) ** 2).sum())


def _residual(
    alpha: float, beta: float, squares_K: NDArray[np.float64], along_K: NDArray[np.float64], outside: float
) -> float:
    """Squared error of the most likely weights."""
    return float((along_K * (alpha / (alpha + beta * squares_K)) ** 2).sum()) + outside
