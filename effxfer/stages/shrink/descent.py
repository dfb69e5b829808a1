"""Find the lowest latency whose winner holds an accuracy: a short descent over a ladder of latencies."""

from collections.abc import Sequence
from typing import Any

from effxfer.errors import GateError
from effxfer.report import Report, Table
from effxfer.stages.shrink.contest import Contest, Network
from effxfer.stages.shrink.trials import Outcome, contest_at
from effxfer.train.evaluate import score
from effxfer.train.state import Work

# Chosen: half of the present latency costs little on most tasks; steps of 0.7 lie outside the noise of a timing.
FIRST, STEP = 0.5, 0.7
# Each is a competition; 0.5 x 0.7^5 is a twelfth of the present latency.
MOST_RUNGS = 6
# Of what is left, so that a later rung still has time.
TIME_SHARE = 0.5


def descend(contest: Contest, max_drop: float, work: Work, began: float) -> tuple[Outcome, float, Report]:
    """Let all candidates compete at a first latency, then those of the winner's network at lower ones while it holds.

    Where the first winner does not hold, latencies rise instead, up to the present one.

    Args:
        contest: What all candidates share.
        max_drop: Largest loss of the winner as it ships against the input network in float32, in validation points.
        work: Saves the results of each latency.
        began: Start of the time limit, by the clock of the contest.

    Returns:
        The outcome at the lowest latency that holds, that latency, and a table of the latencies tried; also a note if
        the time limit ended the descent.

    Raises:
        GateError: If no latency below the present one holds (E604).
    """
    dense, present = contest.dense, contest.networks[0].present.ratio
    base = work.once("dense", lambda: {"val": score(dense, contest.task_for(dense).val, contest.device)})["val"]
    limit, networks, rows = present * FIRST, contest.networks, list[dict[str, Any]]()
    best: tuple[Outcome, float] | None = None
    failed, seconds, notes = False, contest.settings.seconds, tuple[str, ...]()
    for rung in range(1, MOST_RUNGS + 1):
        part = work.part(f"rung-{rung}")
        share = seconds and seconds * (1 - (1 - TIME_SHARE) ** rung)
        due = share if best else seconds
        # A further competition would build candidates, and train none.
        if rows and due is not None and contest.now() - began >= due:
            notes = (f"{limit:.3g} x and other latencies were not tried, because the time limit was near",)
            break
        outcome, problem = try_latency(contest, limit, networks, part, share, began)
        drop = base - outcome.val if outcome else float("nan")
        holds = outcome is not None and drop <= max_drop
        rows.append(rung_row(limit, outcome, drop, holds=holds, problem=problem))
        if outcome and holds:
            best, networks = (outcome, limit), [n for n in contest.networks if n.name == outcome.winner.network]
            if failed:
                break
            limit = STEP * min(limit, outcome.ratio)
        else:
            failed, limit = True, limit / STEP
            if best or limit >= present:
                break
    table = Table(title="Latencies tried", rows=tuple(rows))
    if best is None:
        raise not_held(rows, max_drop)
    return *best, Report(tables=(table,), notes=notes)


def try_latency(
    contest: Contest, limit: float, networks: Sequence[Network], work: Work, seconds: float | None, began: float
) -> tuple[Outcome | None, str]:  # fmt: skip
    """Run the competition at one latency; return its outcome, or None and the reason why it has none."""
    try:
        return contest_at(contest, limit, networks, work, seconds=seconds, began=began), ""
    except GateError as error:
        return None, error.problem


def rung_row(limit: float, outcome: Outcome | None, drop: float, *, holds: bool, problem: str) -> dict[str, Any]:
    """One row of the table of latencies."""
    return {
        "latency x": limit,
        "winner": outcome.winner.name if outcome else problem,
        "p50 ratio": outcome.ratio if outcome else None,
        "val %": outcome.val if outcome else None,
        "drop, points": drop if outcome else None,
        "holds": "yes" if holds else "no",
    }


def not_held(rows: Sequence[dict[str, Any]], max_drop: float) -> GateError:
    """Return the error of an accuracy that no latency below the present one holds, with the nearest candidate."""
    measured = [row for row in rows if row["drop, points"] is not None]
    if not measured:
        return GateError(f"no latency could be measured: {rows[-1]['winner']}", "name smaller `backbones`", code="E604")
    nearest = min(measured, key=lambda row: float(row["drop, points"]))
    text = (
        f"nothing faster is within {max_drop:g} points: the nearest is {nearest['winner']} at "
        f"{nearest['p50 ratio']:.3g} x, {nearest['drop, points']:.2f} points below"
    )
    return GateError(text, "raise max_drop or fit.epochs, or name other `backbones`", code="E604")
