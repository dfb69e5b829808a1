"""Report of a competition at one latency: a table and a plot of all candidates, and how sure the winner is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.pareto import pareto_front
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.runtime.outputs.base import BELOW_ALL
from effxfer.stages.shrink.contest import Contest
from effxfer.stages.shrink.entries import Entry
from effxfer.stages.shrink.trials import Outcome
from effxfer.train.evaluate import predict

INPUT = "input network, float32"
PLOT = "Validation accuracy against latency of the candidates"
# Standard deviations of a two-sided interval of 95 %.
WIDTH = 1.96
# A time limit counts as kept within a tenth.
TOLERANCE = 1.1


def report_outcome(contest: Contest, outcome: Outcome, limit: float) -> Report:
    """Report the winner's latency and accuracy as it ships, and the candidates beside it.

    Args:
        contest: What all candidates share.
        outcome: The result at the latency.
        limit: Largest latency, as a share of the input network's float32 p50.
    """
    dense, task = contest.dense, contest.tasks[-1]
    before = predict(dense, task.val.rows, dense.input, contest.device).numpy()
    score = dense.output.score(before, task.val.labels).value
    return Report(
        rows=measurements(contest, outcome, limit),
        tables=tables(contest, outcome),
        curves=curves(contest, outcome, score),
        notes=(
            *failures(outcome),
            *margin_note(contest, outcome),
            drop_note(contest, outcome, before),
            *rounding_note(outcome),
            *lowered_note(contest, outcome),
        ),
    )


def measurements(contest: Contest, outcome: Outcome, limit: float) -> tuple[Measurement, ...]:
    """Return the winner's score as it ships, and its latency."""
    timing, output, n = outcome.timing_of(outcome.winner), contest.dense.output, len(contest.tasks[-1].val)
    of, unit = "the input network's float32 p50", contest.dense.input.unit
    rows = [Measurement(name="latency/asked", value=limit, unit="x", of=of)]
    if timing:
        rows += [
            Measurement(
                name="latency/measured", value=timing.ratio, unit="x", low=timing.low, high=timing.high, n=timing.n,
                of=of,
            ),
            Measurement(name="latency/p50", value=timing.ms, unit="ms", n=timing.n),
            Measurement(name="latency/p50 dense", value=timing.dense_ms, unit="ms", n=timing.n),
        ]  # fmt: skip
    if outcome.ships == "int8":
        rows.append(Measurement(name=f"{output.metric}/val/int8", value=outcome.val, unit="%", n=n, of=unit))
    return tuple(rows)


def standings(outcome: Outcome) -> list[Entry]:
    """Return the trained candidates: the last round first, and within a round the best first."""
    trained = [entry for entry in outcome.entries if entry.name in outcome.board]
    board = outcome.board
    return sorted(trained, key=lambda entry: (-len(board[entry.name]), -board[entry.name][-1]["val"]))


def tables(contest: Contest, outcome: Outcome) -> tuple[Table, ...]:
    """Tabulate the trained candidates, and the others with their reasons."""
    rows = tuple(row_of(contest, outcome, place, entry) for place, entry in enumerate(standings(outcome), 1))
    refused = tuple(
        {"candidate": entry.name, "reason": entry.detail, "nearest p50 ratio": entry.timing and entry.timing.ratio}
        for entry in outcome.entries
        if entry.state is None
    )
    board = (Table(title="Candidates at this latency", rows=rows),)
    return (*board, Table(title="Ways without a candidate", rows=refused)) if refused else board


def row_of(contest: Contest, outcome: Outcome, place: int, entry: Entry) -> dict[str, Any]:
    """One row of the table of candidates."""
    runs, timing, title = outcome.board[entry.name], outcome.timing_of(entry), contest.dense.output.title
    scores = [score_cell(run["val"]) for run in runs] + [None] * (len(outcome.plan) - len(runs))
    return {
        "place": place,
        "candidate": entry.name,
        "size": entry.detail,
        "p50 ratio": timing and timing.ratio,
        "ratio 95 %": f"{timing.low:.3f} to {timing.high:.3f}" if timing and timing.n > 1 else "",
        "loss before": entry.loss,
        "before %": entry.before["val"],
        **{f"round {number} %": value for number, value in enumerate(scores, 1)},
        f"{title} val %": score_cell(runs[-1]["val"]),
        **({"ships": runs[-1]["ships"], "float32 %": score_cell(runs[-1]["float"])} if uses_int8(contest) else {}),
        "n": len(contest.tasks[-1].val),
        "epochs": runs[-1]["epochs"],
        "seconds": sum(run["seconds"] for run in runs),
    }


def uses_int8(contest: Contest) -> bool:
    """Whether any candidate may ship as int8."""
    return any(network.shipping.int8 for network in contest.networks)


def score_cell(value: float) -> float | None:
    """Return a score, or None for that of a failed training."""
    return None if value == BELOW_ALL else value


def curves(contest: Contest, outcome: Outcome, score: float) -> tuple[Curve, ...]:
    """Plot the score as it ships, after the last training, against the latency, with the Pareto front.

    Args:
        contest: What all candidates share.
        outcome: The result at the latency.
        score: Validation score of the input network in float32.
    """
    measured = {INPUT: (1.0, score)}
    for entry in standings(outcome):
        timing = outcome.timing_of(entry)
        if timing and "failed" not in outcome.board[entry.name][-1]:
            measured[entry.name] = timing.ratio, float(outcome.board[entry.name][-1]["val"])
    y = f"validation {contest.dense.output.title}, %"
    points = list(measured.values())
    front = tuple(points[place] for place in pareto_front(points, ties=False))
    series = [(name, (point,), False) for name, point in measured.items()] + [("nothing beats these", front, True)]
    return tuple(
        Curve(title=PLOT, name=name, x="p50, share of the input network's float32", y=y, points=each, line=line)
        for name, each, line in series
    )


def failures(outcome: Outcome) -> list[str]:
    """Name the candidates whose training failed, and those that there was no time for."""
    notes = [f"{name}: {runs[-1]['failed']}" for name, runs in outcome.board.items() if "failed" in runs[-1]]
    late = [name for name, runs in outcome.board.items() if "untrained" in runs[-1]]
    if late:
        notes.append(f"as built, because the time limit left none for a training: {', '.join(late)}; allow more time")
    idle = [entry.name for entry in outcome.entries if entry.state and entry.name not in outcome.board]
    return notes + ([f"not tried, because the time limit was reached: {', '.join(idle)}"] if idle else [])


def margin_note(contest: Contest, outcome: Outcome) -> tuple[str, ...]:
    """Note how far the winner was ahead in the last round that it shared with others, and whether that is noise."""
    board, winner = outcome.board, outcome.winner
    rivals = [entry for entry in standings(outcome) if entry is not winner and "failed" not in board[entry.name][-1]]
    if not rivals:
        return ()
    second, number = rivals[0], len(board[rivals[0].name])
    first, runner_up = board[winner.name][number - 1], board[second.name][-1]
    output, task = contest.dense.output, contest.tasks[-1]
    deviation = output.drop_deviation(runner_up["outputs"].numpy(), first["outputs"].numpy(), task.val.labels)
    gap = first["val"] - runner_up["val"]
    lead = f"was {distance(contest, gap)} ahead of" if gap else "scored as"
    text = f"in round {number} the winner, {winner.name}, {lead} {second.name}"
    return (f"{text}: {noise(gap, deviation)} (n={len(task.val)}, paired)",)


def drop_note(contest: Contest, outcome: Outcome, before: NDArray[np.float32]) -> str:
    """Note how far the winner as it ships is below the input network in float32, whose outputs are `before`."""
    output, task = contest.dense.output, contest.tasks[-1]
    value = output.score(before, task.val.labels).value
    after = outcome.board[outcome.winner.name][-1]["outputs"].numpy()
    deviation, gap = output.drop_deviation(before, after, task.val.labels), value - outcome.val
    text = f"the input network in float32 has {value:.2f} %, the winner as {outcome.ships} {outcome.val:.2f} %"
    difference = f"{distance(contest, abs(gap))} {'less' if gap > 0 else 'more'}" if gap else "the same"
    return f"{text}: {difference}, {noise(gap, deviation)} (n={len(task.val)}, paired)"


def rounding_note(outcome: Outcome) -> tuple[str, ...]:
    """Note that the winner was trained with rounding, and what its files have then."""
    last = outcome.board[outcome.winner.name][-1]
    if "rounded" not in last:
        return ()
    files = f"float32 {last['float']:.2f} %, int8 {last['int8']:.2f} %"
    return (f"trained with rounded weights and activations for {last['rounded']} epochs, because int8 lost: {files}",)


def lowered_note(contest: Contest, outcome: Outcome) -> tuple[str, ...]:
    """Note that the winner's training is not kept, because it lowered the score."""
    last = outcome.board[outcome.winner.name][-1]
    if "lowered_to" not in last:
        return ()
    verb = "was trained with rounding" if "rounded" in last else "ships"
    text = f"{outcome.winner.name} {verb} as it was before its training, which lowered it to {last['lowered_to']:.2f} %"
    planned = contest.settings.fit.epochs
    epochs = last.get("lowered_in", planned)
    if epochs < planned:
        return (f"{text} in {epochs} of {planned} epochs: allow more time, or lower fit.lr",)
    return (f"{text}: lower fit.lr",)


def overrun_note(limit: float | None, seconds: float) -> tuple[str, ...]:
    """Note that a stage took longer than its time limit."""
    if limit is None or seconds <= limit * TOLERANCE:
        return ()
    reason = "one candidate is always built, timed and scored, and what was begun is finished"
    return (f"took {seconds:.0f} s, the time limit is {limit:.0f} s: {reason}",)


def distance(contest: Contest, gap: float) -> str:
    """Return a difference of scores in examples for single labels, else in points."""
    task = contest.tasks[-1]
    if task.output.kind != "single":
        return f"{gap:.2f} points"
    count, unit = round(gap * len(task.val) / 100), task.input.unit
    return f"{count} {unit if abs(count) != 1 else unit[:-1]} ({gap:.2f} points)"


def noise(gap: float, deviation: float) -> str:
    """Say whether a difference is within its 95 % interval."""
    interval = f"±{WIDTH * deviation:.2f} points"
    return f"within the noise of {interval}" if abs(gap) <= WIDTH * deviation else f"beyond the noise of {interval}"
