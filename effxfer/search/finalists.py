"""The last round: the best trials, trained on the whole training split and ranked on `val`; and the report."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor

from effxfer import progress
from effxfer.errors import ResourceError
from effxfer.net.heads import HeadSpec, describe, head_parameters
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.search.objective import DivergedError, answers, score_head, size_penalty, train_head
from effxfer.search.space import JOIN, Candidate, baseline
from effxfer.search.storage import counts
from effxfer.search.work import Search, candidate_of, trial_seed

SHOWN = 10


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Finalist:
    """One of the best trials, trained on the whole training split and judged on `val`."""

    trial: Any
    candidate: Candidate
    spec: HeadSpec
    state: dict[str, Tensor]
    score: float
    value: float


def conclude(study: Any, search: Search) -> SearchResult:
    """Train the finalists on the whole training split and take the best on `val`, counting size.

    Raises:
        ResourceError: If no trial was completed.
    """
    done = study.get_trials(deepcopy=False)
    complete = sorted((t for t in done if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number))
    linear = next((t for t in complete if t.params == baseline(search.choices)), None)
    if linear is None:
        raise ResourceError("the search ended before its first trial did", "give it more seconds or more trials")
    best = [*complete[: search.settings.finalists], linear]
    trials = list({t.number: t for t in best}.values())
    with progress.bar("head finalists", len(trials)) as advance:
        finalists = [found for t in trials if (found := _finalist(t, search, advance))]
    if not finalists:
        raise ResourceError("every finalist diverged on the whole training split", "search with more trials")
    winner = max(finalists, key=lambda f: (f.value, f.trial.value, -f.trial.number))
    return SearchResult(
        spec=winner.spec,
        taps=winner.candidate.taps,
        state=winner.state,
        answers=answers(search.features, winner.candidate.taps, winner.spec, winner.state),
        report=_report(search, done, finalists, winner, linear),
    )


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
    value = score - size_penalty(search.features, candidate, search.settings, search.reference())
    return Finalist(trial=trial, candidate=candidate, spec=spec, state=state, score=score, value=value)


def _report(search: Search, trials: list[Any], finalists: list[Finalist], winner: Finalist, linear: Any) -> Report:
    features, metric = search.features, search.settings.metric
    plain = next((f for f in finalists if f.trial.number == linear.number), winner)
    size = head_parameters(winner.spec, features.width(winner.candidate.taps), features.classes)
    found = counts(trials)
    rows = [
        _share(f"head {metric}/val", winner.score, len(features.val_labels)),
        _share(f"linear head {metric}/val", plain.score, len(features.val_labels)),
        _share(f"head {metric}/train folds", _metric(winner.trial), len(features.labels)),
        _share(f"linear head {metric}/train folds", _metric(linear), len(features.labels)),
        Measurement(name="head parameters", value=size / 1e6, unit="M"),
        Measurement(name="linear head parameters", value=search.reference() / 1e6, unit="M"),
        *(Measurement(name=f"trials {kind}", value=found[kind]) for kind in ("complete", "pruned", "refused", "lost")),
    ]
    table = Table(title="Best heads", rows=tuple(_rows(search, trials, finalists)))
    return Report(
        rows=tuple(rows), notes=_notes(search, len(finalists)), tables=(table,), curves=_curves(trials, metric)
    )


def _share(name: str, share: float, n: int) -> Measurement:
    return Measurement(name=name, value=100 * share, unit="%", n=n)


def _metric(trial: Any) -> float:
    """Give a trial's metric without the penalty for size."""
    score: float = trial.user_attrs["metric"]
    return score


def _notes(search: Search, finalists: int) -> tuple[str, ...]:
    folds = len(search.folds())
    how = f"{folds} folds" if folds > 1 else "one held-out fifth"
    return (
        f"trials were judged on {how} of the training split; val ranked the {finalists} finalists, "
        "so its figure for the winner is slightly optimistic",
    )


def _rows(search: Search, trials: list[Any], finalists: list[Finalist]) -> list[dict[str, Any]]:
    on_val = {f.trial.number: 100 * f.score for f in finalists}
    complete = sorted((t for t in trials if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number))
    shown = complete[:SHOWN] + [t for t in complete[SHOWN:] if t.number in on_val]
    return [_row(search, trial, on_val.get(trial.number)) for trial in shown]


def _row(search: Search, trial: Any, val: float | None) -> dict[str, Any]:
    candidate, features = candidate_of(trial, search), search.features
    return {
        "trial": trial.number,
        "head": describe(candidate.spec),
        "taps": JOIN.join(candidate.taps),
        "parameters": head_parameters(candidate.spec, features.width(candidate.taps), features.classes),
        "folds %": 100 * _metric(trial),
        "val %": val,
        "lr": candidate.lr,
        "seconds": trial.user_attrs["seconds"],
    }


def _curves(trials: list[Any], metric: str) -> tuple[Curve, ...]:
    scores = [100 * _metric(t) for t in trials if t.state.name == "COMPLETE"]
    title, x, y = "Head search", "finished trials", f"{metric} on the folds, %"
    best = tuple(enumerate(accumulate(scores, max), 1))
    return (
        Curve(title=title, name="best so far", x=x, y=y, points=best),
        Curve(title=title, name="trial", x=x, y=y, points=tuple(enumerate(scores, 1)), line=False),
    )
