"""Report of a search: the selected head against the plain linear one, the trials, and the Pareto front."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from effxfer.net.heads.spec import describe
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.search.finalist import Finalist, front
from effxfer.search.space import JOIN
from effxfer.search.storage.trials import counts
from effxfer.search.workers.worker import Search, candidate_of

# Chosen: finalists (5 by default) and as many that just missed; finalists beyond are always shown.
SHOWN = 10


def report_of(
    search: Search, trials: list[Any], finalists: list[Finalist], winner: Finalist, plain: Finalist, linear: Any,
    reason: str,
) -> Report:  # fmt: skip
    """Report a search.

    Args:
        search: The search.
        trials: All of them.
        finalists: Those trained on the whole training split.
        winner: The selected one.
        plain: The plain linear head; another one if it diverged.
        linear: Its trial.
        reason: Why it was selected, a sentence.
    """
    features, metric = search.features, search.metric
    number = counts(trials)
    rows = [
        _share(f"head {metric}/val", winner.score, len(features.val_rows)),
        _share(f"linear head {metric}/val", plain.score, len(features.val_rows)),
        _share(f"head {metric}/train folds", _metric(winner.trial), len(features.rows)),
        _share(f"linear head {metric}/train folds", _metric(linear), len(features.rows)),
        Measurement(name="head parameters", value=winner.parameters / 1e6, unit="M"),
        Measurement(name="linear head parameters", value=search.reference() / 1e6, unit="M"),
        *_latency(winner, plain),
        *(Measurement(name=f"trials {kind}", value=number[kind]) for kind in ("complete", "pruned", "refused", "lost")),
    ]
    table = Table(title="Best heads", rows=tuple(_rows(search, trials, finalists, winner)))
    curves = (*_curves(trials, metric), *_plot(search, trials, winner))
    return Report(rows=tuple(rows), notes=(*_notes(search, len(finalists)), reason), tables=(table,), curves=curves)


def _latency(winner: Finalist, plain: Finalist) -> list[Measurement]:
    head_latency, linear_latency = winner.latency, plain.latency
    if not (head_latency and linear_latency):
        return []
    return [
        Measurement(name="head latency/p50", value=head_latency.ms, unit="ms"),
        Measurement(name="linear head latency/p50", value=linear_latency.ms, unit="ms"),
        Measurement(
            name="head latency/ratio", value=head_latency.ratio, low=head_latency.low, high=head_latency.high, unit="x"
        ),
    ]


def _share(name: str, share: float, n: int) -> Measurement:
    return Measurement(name=name, value=100 * share, unit="%", n=n)


def _metric(trial: Any) -> float:
    """Return a trial's metric without the penalties."""
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
    trained = {f.trial.number: f for f in finalists}
    complete = sorted((t for t in trials if t.state.name == "COMPLETE"), key=lambda t: (-t.value, t.number))
    shown = complete[:SHOWN] + [t for t in complete[SHOWN:] if t.number in trained]
    return [_row(search, trial, trained.get(trial.number), trial.number == winner.trial.number) for trial in shown]


def _row(search: Search, trial: Any, trained: Finalist | None, selected: bool) -> dict[str, Any]:
    candidate = candidate_of(trial, search)
    latency = trained.latency if trained else None
    ratios = {"modelled x": trial.user_attrs["ratio"], "measured x": latency.ratio if latency else None}
    return {
        "trial": trial.number,
        "head": describe(candidate.spec),
        "taps": JOIN.join(candidate.taps),
        "parameters": search.features.parameters(candidate.spec, candidate.taps),
        "folds %": 100 * _metric(trial),
        "val %": 100 * trained.score if trained else None,
        **({**ratios, "network M": millions(search, candidate)} if search.costs else {}),
        "optimizer": candidate.optimizer,
        "lr": candidate.lr,
        "seconds": trial.user_attrs["seconds"],
        "taken": "yes" if selected else "",
    }


def millions(search: Search, candidate: Any) -> float | None:
    """Count the parameters of the whole network with a head, in millions."""
    if not search.costs:
        return None
    head = search.features.parameters(candidate.spec, candidate.taps) / 1e6
    return search.costs.millions[JOIN.join(candidate.taps)] + head


def _curves(trials: list[Any], metric: str) -> tuple[Curve, ...]:
    scores = [100 * _metric(t) for t in trials if t.state.name == "COMPLETE"]
    title, x, y = "Head search", "finished trials", f"{metric} on the folds, %"
    best = tuple(enumerate(accumulate(scores, max), 1))
    return (
        Curve(title=title, name="best so far", x=x, y=y, points=best),
        Curve(title=title, name="trial", x=x, y=y, points=tuple(enumerate(scores, 1)), line=False),
    )


def _plot(search: Search, trials: list[Any], winner: Finalist) -> tuple[Curve, ...]:
    """Plot metric against latency: the Pareto front, the other trials, and the selected one."""
    if not search.costs:
        return ()
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    best = front(complete)
    dominated = [t for t in complete if t not in best]
    title, x, y = "Heads: metric against latency", "latency over the plain linear head's", "on the folds, %"
    groups = [("nothing beats these", best, True), ("others", dominated, False), ("taken", [winner.trial], False)]
    return tuple(
        Curve(title=title, name=name, x=x, y=f"{search.metric} {y}", points=_points(group), line=line)
        for name, group, line in groups
        if group
    )


def _points(trials: list[Any]) -> tuple[tuple[float, float], ...]:
    return tuple(sorted((t.user_attrs["ratio"], 100 * _metric(t)) for t in trials))
