"""The last round: the best trials, trained on the whole training split, timed and ranked on `val`.

The study has one objective, the metric less penalties for size and latency: pruners that stop trials early need one
(Optuna refuses `should_prune` with several objectives), and they make a search fast. Every trial stores its metric and
its latency separately, so that the Pareto front can be drawn, and selected from, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from effxfer import progress
from effxfer.errors import ResourceError
from effxfer.net.heads.spec import describe
from effxfer.search.finalist import Finalist, SearchResult, TimeHeads, front
from effxfer.search.head_training import head_outputs, score_head, train_head
from effxfer.search.report import report_of
from effxfer.search.space import baseline
from effxfer.search.workers.worker import Search, candidate_of, trial_seed
from effxfer.train.optim.gradients import DivergedError


@dataclass(frozen=True, kw_only=True, eq=False)
class Finals:
    """The finalists of a search, of which one is selected.

    Attributes:
        search: The search.
        trials: All of its trials.
        finalists: Trained on the whole training split, timed, and scored on `val`.
        plain: The one with the plain linear head; another one if that diverged.
        linear: Its trial.
    """

    search: Search
    trials: list[Any]
    finalists: list[Finalist]
    plain: Finalist
    linear: Any

    def best(self) -> SearchResult:
        """Select one by its score on `val`."""
        return self.result(*select(self.finalists, self.plain, self.search))

    def result(self, winner: Finalist, reason: str) -> SearchResult:
        """Return the result with a finalist; `reason` is a sentence that says why it was selected."""
        search, taps = self.search, winner.candidate.taps
        return SearchResult(
            spec=winner.spec,
            taps=taps,
            state=winner.state,
            raw=head_outputs(search.features, taps, winner.spec, winner.state),
            report=report_of(search, self.trials, self.finalists, winner, self.plain, self.linear, reason),
        )


def conclude(study: Any, search: Search, time_heads: TimeHeads | None = None) -> Finals:
    """Train the finalists on the whole training split, and time them.

    Raises:
        ResourceError: If no trial was completed.
    """
    every_trial = study.get_trials(deepcopy=False)
    # The number breaks ties, so that a resumed search has the same order.
    complete = sorted((t for t in every_trial if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number))
    linear = next((t for t in complete if t.params == baseline(search.choices)), None)
    if linear is None:
        raise ResourceError("the search ended before its first trial did", "give it more seconds or more trials")
    trials = list({t.number: t for t in [*finalist_trials(complete, search.settings.finalists), linear]}.values())
    with progress.bar("head finalists", len(trials)) as advance:
        trained = [_train_finalist(t, search, advance) for t in trials]
    finalists = [finalist for finalist in trained if finalist]
    if not finalists:
        raise ResourceError("every finalist diverged on the whole training split", "search with more trials")
    plain = next((f for f in finalists if f.trial.number == linear.number), finalists[0])
    if time_heads:
        heads = {f.trial.number: (f.spec, f.candidate.taps, f.state) for f in finalists}
        times = time_heads(heads, plain.trial.number)
        finalists = [replace(f, latency=times[f.trial.number]) for f in finalists]
        plain = next(f for f in finalists if f.trial.number == plain.trial.number)
    return Finals(search=search, trials=every_trial, finalists=finalists, plain=plain, linear=linear)


def finalist_trials(complete: list[Any], limit: int) -> list[Any]:
    """Select the best trials, half of them from the Pareto front of metric and latency.

    Args:
        complete: Best value first.
        limit: Largest number of trials to return.
    """
    # Half by value, half from the front: modelled latencies are wrong by some percent, and only finalists are timed.
    best = complete[: (limit + 1) // 2]
    front_trials = [trial for trial in front(complete) if trial not in best]
    return [*best, *front_trials, *(t for t in complete if t not in best and t not in front_trials)][:limit]


def select(finalists: list[Finalist], plain: Finalist, search: Search) -> tuple[Finalist, str]:
    """Select a finalist by `prefer` and `max_latency_ratio`; return it with the reason in a sentence."""
    settings = search.settings
    limit = settings.max_latency_ratio
    within_limit = [f for f in finalists if limit is None or not f.latency or f is plain or f.latency.ratio <= limit]
    pool = f"of {len(finalists)} finalists" + (
        f", {len(within_limit)} of which are at most {limit:g}x as slow as the plain linear head"
        if plain.latency and limit
        else ""
    )
    if settings.prefer == "fast":
        good = [f for f in within_limit if f.score >= plain.score - settings.max_drop / 100] or [plain]
        winner = min(good, key=lambda f: (f.latency.ms if f.latency else 0.0, f.parameters, -f.score, f.trial.number))
        criterion = "fastest" if plain.latency else "smallest"
        return winner, f"the {criterion} head is taken that loses at most {settings.max_drop:g} points on val, {pool}"
    # `val` first; of equals the better on the folds, then the earlier.
    winner = max(within_limit, key=lambda f: (f.value(search), f.trial.value, -f.trial.number))
    return winner, f"the head is taken that does best on val, less its penalties for size and latency, {pool}"


def _train_finalist(trial: Any, search: Search, advance: progress.Advance) -> Finalist | None:
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
