"""Scores of single weights: what each is worth; larger means keep."""

from collections.abc import Callable, Sequence

from torch import Tensor

from effxfer.net.net import Net
from effxfer.prune.scores.evidence import Evidence
from effxfer.prune.scores.fisher import fisher
from effxfer.prune.scores.magnitude import magnitude
from effxfer.prune.scores.movement import movement
from effxfer.prune.scores.random import random
from effxfer.prune.scores.taylor import taylor

Score = Callable[[Net, Sequence[str], Evidence], dict[str, Tensor]]

SCORES: dict[str, Score] = {
    "fisher": fisher,
    "magnitude": magnitude,
    "movement": movement,
    "random": random,
    "taylor": taylor,
}
