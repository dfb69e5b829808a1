"""A linear probe: ridge regression on features, evaluated by cross-validation (Alain & Bengio, 2016).

https://arxiv.org/abs/1610.01644. Shape legend: N images, D features, C classes.
"""

import numpy as np
from numpy.typing import NDArray

FOLDS = 5  # usual; four fifths of the images are nearly what training will have
# From nearly none to nearly all: features have deviation 1, so that N is the natural scale.
RIDGES = 10.0 ** np.arange(-3, 5)


def linear(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, seed: int = 0) -> float:
    """Return the five-fold cross-validated accuracy of a linear classifier, in percent.

    Args:
        features_ND: Features of a backbone, one row per image.
        labels_N: Indices of classes.
        seed: Seed of the folds, which are stratified by class.

    Returns:
        In [0, 100]; larger is better.
    """
    return 100 * float((cross_validated_scores(features_ND, labels_N, seed=seed).argmax(1) == labels_N).mean())


def cross_validated_scores(
    features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, seed: int = 0
) -> NDArray[np.float64]:
    """Score every class for every image by a linear classifier trained on the other folds.

    The ridge is chosen on the training part of each fold. With fewer images than folds, each image is its own fold.

    Returns:
        `(N, C)`: about 1 for the class of an image that is easy to classify, about -1 for the others.
    """
    from sklearn.linear_model import RidgeClassifierCV

    folds, folds_N = min(FOLDS, len(labels_N)), np.empty(len(labels_N), dtype=int)
    order = np.random.default_rng(seed).permutation(len(labels_N))
    # Stable, so that the shuffle within a class stays.
    folds_N[order[np.argsort(labels_N[order], kind="stable")]] = np.arange(len(labels_N)) % folds
    scores_NC = np.full((len(labels_N), int(labels_N.max()) + 1), -1.0)
    for fold in range(folds):
        test = folds_N == fold
        train_classes = np.unique(labels_N[~test])
        if len(train_classes) == 1:  # the test fold holds all images of the other class
            scores_NC[test, train_classes] = 1.0
            continue
        # Of the training part only; a channel that never varies must not divide by zero.
        mean, deviation = features_ND[~test].mean(0), features_ND[~test].std(0) + 1e-6
        scaled = (features_ND - mean) / deviation
        probe = RidgeClassifierCV(RIDGES).fit(scaled[~test], labels_N[~test])
        scores = probe.decision_function(scaled[test])
        scores_NC[np.ix_(test, probe.classes_)] = scores if scores.ndim == 2 else np.stack([-scores, scores], 1)
    return scores_NC
