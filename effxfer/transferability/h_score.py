"""H-score: distance of the class means relative to the covariance of the features (Bao et al., 2019).

https://doi.org/10.1109/ICIP.2019.8803726; the shrunken covariance, without which the score is noise if there
are fewer images than features, is Ibrahim et al., 2021, https://arxiv.org/abs/2110.06893. Shape legend: N images, D
features.
"""

import numpy as np
from numpy.typing import NDArray


def h_score(
    features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, shrinkage: float | None = None
) -> float:  # fmt: skip
    """Return `(1 - s) tr(S^-1 B)`: B the covariance of class means, S that of the features, shrunken towards a sphere.

    Args:
        features_ND: Features of a backbone, one row per image.
        labels_N: Indices of classes.
        shrinkage: s, in [0, 1]; 0 is the definition of Bao et al., with the pseudo-inverse; None estimates it
            (Ledoit & Wolf, 2004, https://doi.org/10.1016/S0047-259X(03)00096-4).

    Returns:
        From 0, for equal means, to the number of classes minus one; larger is better.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    centred = features_ND - features_ND.mean(0)
    share = float(ledoit_wolf_shrinkage(centred)) if shrinkage is None else shrinkage
    spread = centred.T @ centred / len(centred)
    sphere = np.eye(len(spread)) * np.trace(spread) / len(spread)
    apart = np.zeros_like(spread)
    for label in np.unique(labels_N):
        mean = centred[labels_N == label].mean(0)
        apart += (labels_N == label).mean() * np.outer(mean, mean)
    # Symmetric: an eigendecomposition is enough, with fewer operations than an SVD.
    inverse = np.linalg.pinv((1 - share) * spread + share * sphere, hermitian=True)
    return float((1 - share) * np.einsum("ij,ji->", inverse, apart))
