"""N-LEEP: LEEP with clusters of features in place of source classes (Li et al., 2021, arXiv 2011.11200).

https://arxiv.org/abs/2011.11200. Shape legend: N images, D features.
"""

import numpy as np
from numpy.typing import NDArray

from effxfer.transferability.leep import leep

# Both as in the paper: components of 80 % of the variance, five clusters per class.
ENERGY = 0.8
PER_CLASS = 5
# On points of deviation 1; sklearn's 1e-6 lets a cluster of one image collapse onto it.
FLOOR = 1e-3


def nleep(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, seed: int = 0) -> float:
    """Return LEEP under the posteriors of a Gaussian mixture on the principal components of features.

    It uses the components of 80 % of the variance, and five clusters per class, or one for every three images if that
    is less. Each cluster has its own diagonal covariance.

    Args:
        features_ND: Features of a backbone, one row per image.
        labels_N: Indices of classes.
        seed: Seed of the mixture's initialisation.

    Returns:
        At most 0; larger is better.
    """
    import warnings

    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    points = PCA(n_components=ENERGY, svd_solver="full").fit_transform(features_ND)
    # One scale for all, so that the floor means the same for every backbone.
    points = points / max(float(points.std()), np.finfo(float).tiny)
    clusters = max(min(PER_CLASS * len(np.unique(labels_N)), len(points) // 3), 1)
    mixture = GaussianMixture(clusters, covariance_type="diag", reg_covar=FLOOR, random_state=seed)
    with warnings.catch_warnings():
        # A mixture after 100 steps (sklearn's limit) is good enough for a score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return leep(mixture.fit(points).predict_proba(points), labels_N)
