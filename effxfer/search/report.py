"""The report of a search: the head that was taken beside the plain linear one, the trials, the front of both aims."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from effxfer.net.heads.spec import describe
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.search.space import JOIN
from effxfer.search.storage.trials import counts
from effxfer.search.worker import Search, candidate_of

if TYPE_CHECKING:
    from effxfer.search.finalists import Finalist

SHOWN = 10


def report_of(
    search: Search, trials: list[Any], finalists: list[Finalist], winner: Finalist, plain: Finalist, linear: Any,
    why: str,
) -> Report:  # fmt: skip
    """Tell of a search.

    Args:
        search: What it was about.
        trials: All of them.
        finalists: Those trained on the whole training split.
        winner: The one that is taken.
        plain: The plain linear head; another one if it diverged.
        linear: Its trial.
        why: Why the winner is.
    """
    features, metric = search.features, search.settings.metric
    found = counts(trials)
    rows = [
        _share(f"head {metric}/val", winner.score, len(features.val_labels)),
        _share(f"linear head {metric}/val", plain.score, len(features.val_labels)),
        _share(f"head {metric}/train folds", _metric(winner.trial), len(features.labels)),
        _share(f"linear head {metric}/train folds", _metric(linear), len(features.labels)),
        Measurement(name="head parameters", value=winner.parameters / 1e6, unit="M"),
        Measurement(name="linear head parameters", value=search.reference() / 1e6, unit="M"),
        *_latency(winner, plain),
        *(Measurement(name=f"trials {kind}", value=found[kind]) for kind in ("complete", "pruned", "refused", "lost")),
    ]
    table = Table(title="Best heads", rows=tuple(_rows(search, trials, finalists, winner)))
    curves = (*_curves(trials, metric), *_plot(search, trials, winner))
    return Report(rows=tuple(rows), notes=(*_notes(search, len(finalists)), why), tables=(table,), curves=curves)


def _latency(winner: Finalist, plain: Finalist) -> list[Measurement]:
    mine, theirs = winner.clocked, plain.clocked
    if not (mine and theirs):
        return []
    return [
        Measurement(name="head latency/p50", value=mine.ms, unit="ms"),
        Measurement(name="linear head latency/p50", value=theirs.ms, unit="ms"),
        Measurement(name="head latency/ratio", value=mine.ratio, low=mine.low, high=mine.high, unit="x"),
    ]


def _share(name: str, share: float, n: int) -> Measurement:
    return Measurement(name=name, value=100 * share, unit="%", n=n)


def _metric(trial: Any) -> float:
    """Give a trial's metric without the penalties."""
    score: float = trial.user_attrs["metric"]
    return score


def _notes(search: Search, finalists: int) -> tuple[str, ...]:
    folds = len(search.folds())
    how = f"{folds} folds" if folds > 1 else "one held-out fifth"
    notes = [
        f"trials were judged on {how} of the training split; val ranked the {finalists} finalists, "
        "so its figure for the winner is slightly optimistic"
    ]
    if search.costs:
        notes.append(
            "latency of trials is that of the exported body, cut at the head's layers, plus a model of heads that was "
            "fitted to exported ones; finalists' whole graphs were timed in turns"
        )
    elif search.settings.latency and not math.isinf(search.until):
        notes.append("there was no time to measure latency: give it more seconds, or latency = false")
    return tuple(notes)


def _rows(search: Search, trials: list[Any], finalists: list[Finalist], winner: Finalist) -> list[dict[str, Any]]:
    tried = {f.trial.number: f for f in finalists}
    complete = sorted((t for t in trials if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number))
    shown = complete[:SHOWN] + [t for t in complete[SHOWN:] if t.number in tried]
    return [_row(search, trial, tried.get(trial.number), trial.number == winner.trial.number) for trial in shown]


def _row(search: Search, trial: Any, tried: Finalist | None, taken: bool) -> dict[str, Any]:
    candidate = candidate_of(trial, search)
    timed = tried.clocked if tried else None
    latency = {"modelled x": trial.user_attrs["ratio"], "measured x": timed.ratio if timed else None}
    return {
        "trial": trial.number,
        "head": describe(candidate.spec),
        "taps": JOIN.join(candidate.taps),
        "parameters": search.features.parameters(candidate.spec, candidate.taps),
        "folds %": 100 * _metric(trial),
        "val %": 100 * tried.score if tried else None,
        **({**latency, "network M": millions(search, candidate)} if search.costs else {}),
        "optimizer": candidate.optimizer,
        "lr": candidate.lr,
        "seconds": trial.user_attrs["seconds"],
        "taken": "yes" if taken else "",
    }


def millions(search: Search, candidate: Any) -> float | None:
    """Count the parameters of the whole network with a head, in millions."""
    if not search.costs:
        return None
    own = search.features.parameters(candidate.spec, candidate.taps) / 1e6
    return search.costs.millions[JOIN.join(candidate.taps)] + own


def _curves(trials: list[Any], metric: str) -> tuple[Curve, ...]:
    scores = [100 * _metric(t) for t in trials if t.state.name == "COMPLETE"]
    title, x, y = "Head search", "finished trials", f"{metric} on the folds, %"
    best = tuple(enumerate(accumulate(scores, max), 1))
    return (
        Curve(title=title, name="best so far", x=x, y=y, points=best),
        Curve(title=title, name="trial", x=x, y=y, points=tuple(enumerate(scores, 1)), line=False),
    )


def _plot(search: Search, trials: list[Any], winner: Finalist) -> tuple[Curve, ...]:
    """Plot metric against latency: trials, those that nothing beats, and the one that is taken."""
    from effxfer.search.finalists import front

    if not search.costs:
        return ()
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    best = front(complete)
    rest = [t for t in complete if t not in best]
    title, x, y = "Heads: metric against latency", "latency over the plain linear head's", "on the folds, %"
    drawn = [("nothing beats these", best, True), ("others", rest, False), ("taken", [winner.trial], False)]
    return tuple(
        Curve(title=title, name=name, x=x, y=f"{search.settings.metric} {y}", points=_points(some), line=line)
        for name, some, line in drawn
        if some
    )


def _points(trials: list[Any]) -> tuple[tuple[float, float], ...]:
    return tuple(sorted((t.user_attrs["ratio"], 100 * _metric(t)) for t in trials))
