"""Transferability scores of features and labels, to choose a backbone without training; larger is better."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from effxfer.transferability.h_score import h_score
from effxfer.transferability.linear import linear
from effxfer.transferability.logme import logme
from effxfer.transferability.neighbours import neighbours
from effxfer.transferability.nleep import nleep

Score = Callable[[NDArray[np.float64], NDArray[np.int64]], float]

SCORES: dict[str, Score] = {
    "h_score": h_score,
    "linear": linear,
    "logme": logme,
    "neighbours": neighbours,
    "nleep": nleep,
}
