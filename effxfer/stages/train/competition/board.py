"""The board of a competition: order, table and notes."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

from effxfer.errors import GateError
from effxfer.report import Curve, Report, Table
from effxfer.stages.settings.common import BOARD
from effxfer.stages.train.competition.candidate import FAILED, Board, Candidate
from effxfer.stages.train.continual.stream_contest import stream_notes
from effxfer.train.settings import Validator


def add_run(before: Mapping[str, Any] | None, run: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Replace a candidate's leaderboard entry by its latest run, and add up the training time."""
    return {**run, "seconds": run["seconds"] + (before["seconds"] if before else 0.0), "round": number}


def rank_candidates(
    remaining: Sequence[Candidate], board: Mapping[str, Any], ms: Mapping[str, float], penalty: float
) -> list[Candidate]:
    """Sort candidates, best first; ties keep the order of the settings.

    Raises:
        GateError: If all of them diverged.
    """
    if all(board[candidate.name]["judged"] == FAILED for candidate in remaining):
        reason = board[remaining[0].name]["failed"]
        raise GateError(f"all candidates diverged; the first one: {reason}", "lower fit.lr, or raise the time limit")
    fastest = min(ms.values(), default=1.0)

    def objective(candidate: Candidate) -> float:
        # In doublings: a millisecond is worth more of 2 than of 200.
        return float(board[candidate.name]["judged"]) - penalty * log2(ms.get(candidate.shape, fastest) / fastest)

    return sorted(remaining, key=objective, reverse=True)


def comparison_with(plain: Candidate, winner: Candidate, board: Board, validator: Validator) -> str:
    """Say which of the winner of the rounds and its rival was better after full training, and what labels say."""
    first, second = board[winner.name], board[plain.name]
    choice = winner.name if first["judged"] >= second["judged"] else plain.name
    figures = f"{winner.name} {first['judged']:.3f}, {plain.name} {second['judged']:.3f}"
    measure = "mean accuracy on validation splits" if validator == "source" else repr(validator)
    text = f"{choice} was chosen, by {measure} after full training: {figures}"
    if first.get("target") is None or second.get("target") is None:
        return text
    labels = f"{winner.name} {first['target']:.1f} %, {plain.name} {second['target']:.1f} %"
    return f"{text}. By the target's labels, which chose nothing: {labels}"


def leaderboard(
    entered: Sequence[Candidate], board: Board, ms: Mapping[str, float], validator: Validator
) -> Report:  # fmt: skip
    """Leaderboard, sorted by round reached, then by what chose."""
    order = sorted(
        (candidate for candidate in entered if candidate.name in board),
        key=lambda candidate: (-board[candidate.name]["round"], -board[candidate.name]["judged"]),
    )
    rows = tuple(
        leaderboard_row(place, candidate, board[candidate.name], ms, validator)
        for place, candidate in enumerate(order, 1)
    )
    curves = tuple(
        Curve(
            title=f"Validation {candidate.title} of the last training run", name=candidate.name, x="epoch",
            y=f"{candidate.title}, %",
            points=tuple(map(tuple, board[candidate.name]["passes"])),
        )
        for candidate in order
        if board[candidate.name]["passes"]
    )  # fmt: skip
    names = [candidate.name for candidate in order]
    failed = [f"{name}: {board[name]['failed']}" for name in names if "failed" in board[name]]
    idle = [candidate.name for candidate in entered if candidate.name not in board]
    late = [f"not tried, because the time limit was reached: {', '.join(idle)}"] if idle else []
    return Report(
        tables=(Table(title=BOARD, rows=rows),),
        curves=curves,
        notes=(*failed, *late, *margin_note(order, board, validator)),
    )


def leaderboard_row(
    place: int, candidate: Candidate, entry: Mapping[str, Any], ms: Mapping[str, float], validator: Validator
) -> dict[str, Any]:  # fmt: skip
    """One row of the leaderboard; a run that failed has the columns of the others."""
    reached = entry.get("tasks", {})
    tasks = candidate.tasks if candidate.recipe.in_time else ()
    task_columns = {f"{task.name} val %": reached.get(task.name) for task in tasks}
    row = {
        "place": place,
        "candidate": candidate.name,
        "network": candidate.network,
        "strategy": candidate.recipe.strategy,
        f"{'side' if candidate.unit == 'px' else 'size'} {candidate.unit}": candidate.side,
        "rounds": entry["round"],
        "epochs": entry["epochs"],
        f"{candidate.title} val %": None if entry["val"] == FAILED else entry["val"],
        "seconds": entry["seconds"],
        **task_columns,
    }
    if validator != "source":
        row |= {validator: None if entry["judged"] == FAILED else entry["judged"], "target %": entry.get("target")}
    return {**row, "p50 ms": ms[candidate.shape]} if ms else row


def margin_note(order: Sequence[Candidate], board: Board, validator: Validator) -> tuple[str, ...]:
    """Note the margin, in validation examples, between the best two candidates, or what they were compared by."""
    if len(order) < 2:
        return ()
    if validator != "source":
        text = f"{len(order)} candidates were compared by {validator!r} on the target, without its labels;"
        return (f"{text} the column `target %` is for the report only, and chose nothing",)
    if order[0].recipe.in_time:
        return stream_notes([candidate.name for candidate in order], board, order[0].tasks)
    first, second = (board[candidate.name] for candidate in order[:2])
    task, gap = order[0].tasks[-1], abs(first["val"] - second["val"])
    n, unit = len(task.val), task.input.unit
    count = round(gap * n / 100)
    behind = f"{count} {unit if count != 1 else unit[:-1]}" if task.output.kind == "single" else f"{gap:.2f} points"
    return (
        f"{len(order)} candidates were compared on {n} validation {unit}; the winner was trained longest; the second, "
        f"{order[1].name}, was {behind} behind after its last training run",
    )
