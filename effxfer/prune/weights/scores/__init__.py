"""Scores of single weights: what each is worth; larger means keep."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.fisher import fisher
from effxfer.prune.weights.scores.magnitude import magnitude
from effxfer.prune.weights.scores.movement import movement
from effxfer.prune.weights.scores.random import random
from effxfer.prune.weights.scores.taylor import taylor

Score = Callable[[Any, Sequence[str], ScoreContext], dict[str, Tensor]]

SCORES: dict[str, Score] = {
    "fisher": fisher,
    "magnitude": magnitude,
    "movement": movement,
    "random": random,
    "taylor": taylor,
}
