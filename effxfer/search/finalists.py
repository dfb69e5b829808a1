"""The last round: the best trials, trained on the whole training split, timed and ranked on `val`.

The study has one objective, the metric less penalties for size and latency: pruners that stop trials early need one
(Optuna refuses `should_prune` where there are several), and they are what makes a search quick. Every trial keeps its
metric and its latency apart, so that the front of both is drawn, and chosen from, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from effxfer import progress
from effxfer.errors import ResourceError
from effxfer.net.heads.spec import HeadSpec, describe
from effxfer.report import Report
from effxfer.search.head_training import DivergedError, answers, score_head, size_penalty, train_head
from effxfer.search.report import report_of
from effxfer.search.space import Candidate, baseline
from effxfer.search.worker import Search, candidate_of, trial_seed


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchResult:
    """The head that won.

    Attributes:
        spec: What it looks like.
        taps: The feature layers that feed it, in the order of its inputs.
        state: Its trained weights, for `build_head(spec, ...).load_state_dict`.
        answers: The classes that it predicts on `val`: int64 `(M,)`.
        report: Scores of the winner and of the plain linear head, trial counts, the best trials, best so far.
    """

    spec: HeadSpec
    taps: tuple[str, ...]
    state: dict[str, Tensor]
    answers: Tensor
    report: Report


@dataclass(frozen=True, kw_only=True)
class Clocked:
    """The whole network with a head, timed beside the one with the plain linear head.

    Attributes:
        ms: p50.
        ratio: Of the plain one's latency.
        low: Lower end of the ratio's interval.
        high: Upper end.
    """

    ms: float
    ratio: float
    low: float
    high: float


Heads = Mapping[int, tuple[HeadSpec, tuple[str, ...], Mapping[str, Tensor]]]
Clock = Callable[[Heads, int], Mapping[int, Clocked]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Finalist:
    """One of the best trials, trained on the whole training split and judged on `val`."""

    trial: Any
    candidate: Candidate
    spec: HeadSpec
    state: dict[str, Tensor]
    score: float
    parameters: int
    clocked: Clocked | None = None

    def value(self, search: Search) -> float:
        """The metric less the penalties, with latency as it was measured."""
        small = size_penalty(search.features, self.candidate, search.settings, search.reference())
        slow = search.settings.slowness * math.log2(self.clocked.ratio) if self.clocked else 0.0
        return self.score - small - slow


def conclude(study: Any, search: Search, clock: Clock | None = None) -> SearchResult:
    """Train the finalists on the whole training split, time them, and take one by what they do on `val`.

    Raises:
        ResourceError: If no trial was completed.
    """
    done = study.get_trials(deepcopy=False)
    complete = sorted((t for t in done if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number))
    linear = next((t for t in complete if t.params == baseline(search.choices)), None)
    if linear is None:
        raise ResourceError("the search ended before its first trial did", "give it more seconds or more trials")
    trials = list({t.number: t for t in [*chosen_trials(complete, search.settings.finalists), linear]}.values())
    with progress.bar("head finalists", len(trials)) as advance:
        finalists = [found for t in trials if (found := _finalist(t, search, advance))]
    if not finalists:
        raise ResourceError("every finalist diverged on the whole training split", "search with more trials")
    plain = next((f for f in finalists if f.trial.number == linear.number), finalists[0])
    if clock:
        heads = {f.trial.number: (f.spec, f.candidate.taps, f.state) for f in finalists}
        times = clock(heads, plain.trial.number)
        finalists = [replace(f, clocked=times[f.trial.number]) for f in finalists]
        plain = next(f for f in finalists if f.trial.number == plain.trial.number)
    winner, why = choose(finalists, plain, search)
    return SearchResult(
        spec=winner.spec,
        taps=winner.candidate.taps,
        state=winner.state,
        answers=answers(search.features, winner.candidate.taps, winner.spec, winner.state),
        report=report_of(search, done, finalists, winner, plain, linear, why),
    )


def chosen_trials(complete: list[Any], most: int) -> list[Any]:
    """Take the best trials, and for half of the places those on the front of metric and latency.

    Args:
        complete: Best value first.
        most: How many.
    """
    best = complete[: (most + 1) // 2]
    others = [trial for trial in front(complete) if trial not in best]
    return [*best, *others, *(t for t in complete if t not in best and t not in others)][:most]


def front(complete: list[Any]) -> list[Any]:
    """Give the trials that no other beats in both metric and latency, best metric first."""
    kept: list[Any] = []
    for trial in sorted(complete, key=lambda t: (-t.user_attrs["metric"], t.user_attrs["ratio"], t.number)):
        if not kept or trial.user_attrs["ratio"] < kept[-1].user_attrs["ratio"]:
            kept.append(trial)
    return kept


def choose(finalists: list[Finalist], plain: Finalist, search: Search) -> tuple[Finalist, str]:
    """Take a finalist as `prefer` and `max_latency_ratio` say; and say why it is this one."""
    settings = search.settings
    limit = settings.max_latency_ratio
    quick = [f for f in finalists if limit is None or not f.clocked or f is plain or f.clocked.ratio <= limit]
    left = f"of {len(finalists)} finalists" + (
        f", {len(quick)} of which are at most {limit:g}x as slow as the plain linear head"
        if plain.clocked and limit
        else ""
    )
    if settings.prefer == "fast":
        good = [f for f in quick if f.score >= plain.score - settings.max_drop / 100] or [plain]
        winner = min(good, key=lambda f: (f.clocked.ms if f.clocked else 0.0, f.parameters, -f.score, f.trial.number))
        what = "fastest" if plain.clocked else "smallest"
        return winner, f"the {what} head is taken that loses at most {settings.max_drop:g} points on val, {left}"
    winner = max(quick, key=lambda f: (f.value(search), f.trial.value, -f.trial.number))
    return winner, f"the head is taken that does best on val, less its penalties for size and latency, {left}"


def _finalist(trial: Any, search: Search, advance: progress.Advance) -> Finalist | None:
    candidate = candidate_of(trial, search)
    seed = trial_seed(search.seed, trial.params)
    try:
        spec, state = train_head(search.features, candidate, search.settings, seed)
    except DivergedError:
        return None
    finally:
        advance(1, describe(candidate.spec))
    score = score_head(search.features, candidate.taps, spec, state, search.settings.metric)
    parameters = search.features.parameters(spec, candidate.taps)
    return Finalist(trial=trial, candidate=candidate, spec=spec, state=state, score=score, parameters=parameters)
