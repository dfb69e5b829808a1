"""Find labels that are likely wrong, by confident learning (Northcutt et al., 2021).

https://arxiv.org/abs/1911.00068. Shape legend: N images, D features, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.softmax import softmax
from effxfer.transferability.linear import cross_validated_scores

# Scores lie about -1 to 1: from nearly hard (1/32) to nearly even (45).
TEMPERATURES = 2.0 ** np.arange(-5, 6, 0.5)
# With a fifth of the digits' labels wrong, at least 70 % are found, and at least 85 % of those named are wrong.
LIKELIER = 4.0


@dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong.

    Attributes:
        row: Index of the image.
        looks_like: Index of the predicted class.
        times: Ratio of the probabilities of predicted class and label, by the probe.
    """

    row: int
    looks_like: int
    times: float


def suspects(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, seed: int = 0) -> list[Suspect]:
    """Find images that a cross-validated linear probe assigns to another class than their label.

    An image is suspect if that class is four times as likely as its label, and at least as likely as on average for
    images of that class, so classes that are hard to separate raise no suspicion. Probabilities are softmax scores at
    the temperature that fits the labels best.

    Args:
        features_ND: Features of a backbone, one row per image.
        labels_N: Indices of classes, some of them wrong.
        seed: Seed of the folds.

    Returns:
        The suspects, the most unlikely label first.
    """
    likely_NC = _probabilities(cross_validated_scores(features_ND, labels_N, seed=seed), labels_N)
    rows, counts = np.arange(len(labels_N)), np.bincount(labels_N, minlength=likely_NC.shape[1])
    own_N, guess_N = likely_NC[rows, labels_N], likely_NC.argmax(1)
    usual_C = np.bincount(labels_N, weights=own_N, minlength=len(counts)) / np.maximum(counts, 1)
    best_N = likely_NC[rows, guess_N]
    times_N = best_N / np.maximum(own_N, 1e-12)
    selected = np.flatnonzero((times_N >= LIKELIER) & (best_N >= usual_C[guess_N]))
    order = selected[np.argsort(-times_N[selected], kind="stable")]
    return [Suspect(int(row), int(guess_N[row]), float(times_N[row])) for row in order]


def _probabilities(scores_NC: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return probabilities at the temperature that maximises the likelihood of the labels (Guo et al., 2017)."""
    rows = np.arange(len(labels_N))
    every = [softmax(scores_NC / temperature) for temperature in TEMPERATURES]
    return max(every, key=lambda likely_NC: float(np.log(np.maximum(likely_NC[rows, labels_N], 1e-12)).sum()))
