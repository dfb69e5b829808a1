"""Labels that are likely wrong: another class fits better than labels usually fit their own (Northcutt et al., 2021).

Confident learning, https://arxiv.org/abs/1911.00068. Shape legend: N images, D features, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.softmax import softmax
from effxfer.transferability.linear import held_out

TEMPERATURES = 2.0 ** np.arange(-5, 6, 0.5)
LIKELIER = 4.0


@dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong.

    Attributes:
        row: Which image.
        looks_like: Index of the class that it is taken for.
        times: How many times as likely that class is as the label, by the probe.
    """

    row: int
    looks_like: int
    times: float


def suspects(features_ND: NDArray[np.float64], labels_N: NDArray[np.int64], *, seed: int = 0) -> list[Suspect]:
    """Find images that a linear probe, trained on others, takes for another class than their label says.

    An image is suspect if that class is four times as likely as its label, and at least as likely as it is, in the
    mean, for the images that carry it: a class that is hard to tell does not make its neighbours suspect.
    Probabilities are of scores at the temperature that suits the labels best.

    Args:
        features_ND: Of a backbone, one row per image.
        labels_N: Indices of classes, some of them wrong.
        seed: Of the folds.

    Returns:
        The one first whose label is unlikeliest.
    """
    likely_NC = _probabilities(held_out(features_ND, labels_N, seed=seed), labels_N)
    rows, counts = np.arange(len(labels_N)), np.bincount(labels_N, minlength=likely_NC.shape[1])
    own_N, guess_N = likely_NC[rows, labels_N], likely_NC.argmax(1)
    usual_C = np.bincount(labels_N, weights=own_N, minlength=len(counts)) / np.maximum(counts, 1)
    best_N = likely_NC[rows, guess_N]
    times_N = best_N / np.maximum(own_N, 1e-12)
    found = np.flatnonzero((times_N >= LIKELIER) & (best_N >= usual_C[guess_N]))
    order = found[np.argsort(-times_N[found], kind="stable")]
    return [Suspect(int(row), int(guess_N[row]), float(times_N[row])) for row in order]


def _probabilities(scores_NC: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Soften scores by the temperature at which the labels are likeliest (Guo et al., 2017)."""
    rows = np.arange(len(labels_N))
    every = [softmax(scores_NC / temperature) for temperature in TEMPERATURES]
    return max(every, key=lambda likely_NC: float(np.log(np.maximum(likely_NC[rows, labels_N], 1e-12)).sum()))
