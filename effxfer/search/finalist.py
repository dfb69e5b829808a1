"""A finalist of a search and its latency, the Pareto front of trials, and the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from effxfer.net.heads.spec import HeadSpec
from effxfer.pareto import pareto_front
from effxfer.report import Report
from effxfer.search.head_training import size_penalty
from effxfer.search.space import Candidate
from effxfer.search.workers.worker import Search


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """The winning head.

    Attributes:
        spec: Architecture of the head.
        taps: The feature layers that feed it, in the order of its inputs.
        state: Trained weights, for `build_head(spec, ...).load_state_dict`.
        raw: Outputs on `val`: `(M, C)`.
        report: Scores of the winner and of the plain linear head, trial counts, the best trials, best so far.
    """

    spec: HeadSpec
    taps: tuple[str, ...]
    state: dict[str, Tensor]
    raw: NDArray[np.float32]
    report: Report


@dataclass(frozen=True, kw_only=True)
class LatencyRatio:
    """Latency of the complete network with a head, timed in turns with the plain linear head.

    Attributes:
        ms: p50.
        ratio: Over the latency of the plain one.
        low: Lower end of the ratio's interval.
        high: Upper end.
    """

    ms: float
    ratio: float
    low: float
    high: float


Heads = Mapping[int, tuple[HeadSpec, tuple[str, ...], Mapping[str, Tensor]]]
TimeHeads = Callable[[Heads, int], Mapping[int, LatencyRatio]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Finalist:
    """One of the best trials, trained on the whole training split and judged on `val`."""

    trial: Any
    candidate: Candidate
    spec: HeadSpec
    state: dict[str, Tensor]
    score: float
    parameters: int
    latency: LatencyRatio | None = None

    def value(self, search: Search) -> float:
        """The metric minus the penalties, with the measured latency."""
        small = size_penalty(search.features, self.candidate, search.settings, search.reference())
        # The logarithm: half and twice the latency weigh alike, and a factor counts the same at any latency.
        slow = search.settings.latency_weight * math.log2(self.latency.ratio) if self.latency else 0.0
        return self.score - small - slow


def front(complete: list[Any]) -> list[Any]:
    """Pareto front of metric and latency: the trials that no other beats, best metric first."""
    trials = sorted(complete, key=lambda trial: trial.number)
    points = [(trial.user_attrs["ratio"], trial.user_attrs["metric"]) for trial in trials]
    return [trials[i] for i in reversed(pareto_front(points, ties=False))]
