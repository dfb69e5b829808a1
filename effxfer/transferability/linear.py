"""A linear probe: ridge regression on features, judged on images it has not seen (Alain & Bengio, 2016).

https://arxiv.org/abs/1610.01644. Shape legend: N images, D features, C classes.
"""

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
RIDGES = 10.0 ** np.arange(-3, 5)


def linear(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, seed: int = 0) -> float:
    """Give the share of images, in percent, that a linear classifier trained on four fifths of the others gets right.

    Args:
        features_ND: Of a backbone, one row per image.
        labels_N: Indices of classes.
        seed: Of the folds, in which classes are spread evenly.

    Returns:
        In [0, 100]; larger is better.
    """
    return 100 * float((held_out(features_ND, labels_N, seed=seed).argmax(1) == labels_N).mean())


def held_out(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, seed: int = 0) -> NDArray[np.float64]:
    """Score every class for every image, by a linear classifier trained on four fifths of the others.

    The ridge is chosen on the training part of each fold. Of few images, each is held out alone.

    Returns:
        `(N, C)`: about 1 for the class of an image that is easily told, about -1 for the others.
    """
    from sklearn.linear_model import RidgeClassifierCV

    folds, folds_N = min(FOLDS, len(labels_N)), np.empty(len(labels_N), dtype=int)
    order = np.random.default_rng(seed).permutation(len(labels_N))
    folds_N[order[np.argsort(labels_N[order], kind="stable")]] = np.arange(len(labels_N)) % folds
    scores_NC = np.full((len(labels_N), int(labels_N.max()) + 1), -1.0)
    for fold in range(folds):
        held = folds_N == fold
        only = np.unique(labels_N[~held])
        if len(only) == 1:  # the other class was held out whole
            scores_NC[held, only] = 1.0
            continue
        mean, deviation = features_ND[~held].mean(0), features_ND[~held].std(0) + 1e-6
        scaled = (features_ND - mean) / deviation
        probe = RidgeClassifierCV(RIDGES).fit(scaled[~held], labels_N[~held])
        scores = probe.decision_function(scaled[held])
        scores_NC[np.ix_(held, probe.classes_)] = scores if scores.ndim == 2 else np.stack([-scores, scores], 1)
    return scores_NC
