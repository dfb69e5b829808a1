"""Train the candidates of one latency by successive halving, and score them as they ship."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from effxfer.errors import GateError, ModelFileError
from effxfer.net.net import Net
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.runtime.outputs.base import BELOW_ALL
from effxfer.search.halving import Round, rounds, successive_halving, training_share
from effxfer.stages.runner.saved_net import net_from_state, net_state
from effxfer.stages.settings.base import LEAST_TIME
from effxfer.stages.shrink.contest import Contest, Network
from effxfer.stages.shrink.entries import Entry, build_entries
from effxfer.stages.shrink.int8_recovery import SHARE, loses_by_rounding, recover_int8
from effxfer.stages.shrink.scores import scores_of
from effxfer.stages.train.finetune import time_allowance, train
from effxfer.train.state import Work

# Chosen: training decides the winner and gets the larger part of a time limit.
BUILDING_SHARE = 0.3

Board = dict[str, list[dict[str, Any]]]
"""Trainings of each candidate, by name, in the order of the rounds; a row is that of `train_entry`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The result at one latency.

    Attributes:
        entries: All candidates, the refused ones as well.
        board: Their trainings.
        winner: The winner.
        state: Its trained network, for `net_from_state`.
        plan: The rounds.
    """

    entries: Sequence[Entry]
    board: Board
    winner: Entry
    state: Mapping[str, Any]
    plan: Sequence[Round]

    @property
    def val(self) -> float:
        """Validation score of the winner as it ships."""
        return float(self.board[self.winner.name][-1]["val"])

    @property
    def ships(self) -> str:
        """Precision of the winner's file that ships."""
        return str(self.board[self.winner.name][-1]["ships"])

    @property
    def ratio(self) -> float:
        """Latency of the winner."""
        timing = self.timing_of(self.winner)
        return timing.ratio if timing else float("nan")

    def timing_of(self, entry: Entry) -> PairedTiming | None:
        """Latency of a candidate's file that ships, after its last training."""
        runs = self.board.get(entry.name)
        return entry.as_float if entry.as_float and runs and runs[-1]["ships"] == "float32" else entry.timing

    def net(self) -> Net:
        """Return a new copy of the trained winner."""
        return net_from_state(self.state)


def contest_at(
    contest: Contest, limit: float, networks: Sequence[Network], work: Work, *, seconds: float | None, began: float
) -> Outcome:  # fmt: skip
    """Build the candidates of one latency and let them compete; see `build_entries` and `run_contest`.

    Raises:
        GateError: If none reaches it (E604).
    """
    now = contest.now()
    due = now + BUILDING_SHARE * max(began + seconds - now, 0.0) if seconds else None
    entries = build_entries(contest, limit, networks, work, due)
    if not ready_entries(entries):
        raise unreachable(contest.settings.latency_ms, limit, entries)
    return run_contest(contest, entries, work, seconds=seconds, began=began)


def unreachable(latency_ms: float | None, limit: float, entries: Sequence[Entry]) -> GateError:
    """Return the error of a latency that no candidate reaches, with the nearest one, in the unit of the request."""
    timed = [(entry.timing, entry) for entry in entries if entry.timing]
    if not timed:
        reasons = "; ".join(f"{entry.name}: {entry.detail}" for entry in entries)
        return GateError(f"no candidate reaches {limit:.3g} x: {reasons}", "name smaller `backbones`", code="E604")
    timing, nearest = min(timed, key=lambda pair: pair[0].ratio)
    request = f"{latency_ms:g} ms" if latency_ms else f"{limit:.3g} x"
    text = (
        f"no candidate reaches a latency of {request}: the nearest is {nearest.name} with {timing.ratio:.3g} x "
        f"({timing.ms:.3g} ms)"
    )
    # A little more, so that noise does not send the next measurement beyond it.
    setting, value = ("latency_ms", timing.ms) if latency_ms else ("latency_ratio", timing.ratio)
    return GateError(text, f"ask for {setting} = {value * 1.02:.3g}, or name smaller `backbones`", code="E604")


def run_contest(
    contest: Contest, entries: Sequence[Entry], work: Work, *, seconds: float | None, began: float
) -> Outcome:  # fmt: skip
    """Train all candidates briefly, the better ones longer, and the winner with the whole schedule.

    Args:
        contest: What all candidates share.
        entries: Result of `build_entries`, one of which is no refusal at least.
        work: Saves every finished training, and checkpoints of the current one.
        seconds: Time limit since `began`; None: no limit.
        began: Start of the time limit, by the clock of the contest.

    Raises:
        GateError: If all candidates diverge or fail.
    """
    board, start = Board(), begin_rounds(contest, entries, work, seconds=seconds, began=began)
    before = float(start["before"])
    entered = ready_entries(entries)[: int(start["count"])]
    plan = rounds(len(entered), contest.settings.eta)

    def seconds_spent() -> float:
        return before + sum(float(row["seconds"]) for runs in board.values() for row in runs)

    epochs_in = [epochs_of(contest, stage.share) for stage in plan]

    def trial(entry: Entry, number: int, place: int) -> Callable[[], dict[str, Any]]:
        # Positive, as a limit must be, also where the rounds were late.
        limit = seconds and max(seconds - seconds_spent(), 1e-3) * training_share(plan, number, place)
        # An int8 file is written, calibrated and run after each training, which takes as long as before.
        scoring = max(float(row.get("scoring", 0.0)) for row in (entry.before, *board.get(entry.name, [])))
        limit = limit and max(limit - scoring, limit / LEAST_TIME)
        epochs = epochs_in[number]
        label = f"{number + 1}: {entry.name}"
        last = number == len(plan) - 1
        name = "winner" if last else round_name(number, place)
        # Only where rounding cost too much before: the time would be lost otherwise.
        keeps_time = last and any(loses_by_rounding(contest, row) for row in board.get(entry.name, [])[-1:])
        return partial(
            train_entry, contest, entry, epochs, limit, work.part(name), label, keep_net=last, keeps_time=keeps_time
        )

    def is_repeated(entry: Entry, number: int) -> bool:
        # With few epochs two rounds are equally long: the training would be the same, bit for bit.
        return bool(board.get(entry.name)) and seconds is None and epochs_in[number] == epochs_in[number - 1]

    def begin_round(remaining: Sequence[Entry], number: int) -> None:
        places = {k: entry for k, entry in enumerate(remaining) if not is_repeated(entry, number)}
        work.prepare((round_name(number, k), trial(entry, number, k)) for k, entry in places.items())

    def train_in_round(entry: Entry, number: int, place: int) -> None:
        if is_repeated(entry, number):
            board[entry.name].append({**board[entry.name][-1], "seconds": 0.0})
        else:
            row = work.once(round_name(number, place), trial(entry, number, place))
            board.setdefault(entry.name, []).append(row)

    winner = successive_halving(
        entered,
        plan,
        train=train_in_round,
        rank=partial(rank_entries, board=board),
        spent=seconds_spent,
        seconds=seconds,
        begin_round=begin_round,
    )
    last = dict(work.once("winner", trial(winner, len(plan) - 1, 0)))
    if "failed" in last:
        raise GateError(f"{winner.name}: {last['failed']}", "lower fit.lr, or raise the time limit")
    state = last.pop("state")
    board.setdefault(winner.name, []).append(last)
    return Outcome(entries=entries, board=board, winner=winner, state=state, plan=plan)


def begin_rounds(
    contest: Contest, entries: Sequence[Entry], work: Work, *, seconds: float | None, began: float
) -> dict[str, Any]:  # fmt: skip
    """Choose how many candidates enter, once: after a cut there is more time, and more would move places.

    Returns:
        `count` of the candidates that enter, and `before`, the seconds until then.
    """

    def choose() -> dict[str, Any]:
        before = contest.now() - began
        count = len(entrants(entries, contest.settings.eta, seconds and seconds - before))
        return {"count": count, "before": before}

    return work.once("entrants", choose)


def entrants(entries: Sequence[Entry], eta: int, seconds: float | None) -> Sequence[Entry]:
    """Return the first candidates, as many as can be trained for an epoch in the first round; 2 at least, if there are.

    A shorter training compares noise, and takes the time of the winner's.

    Args:
        entries: Candidates in the order of their training, and refused ones.
        eta: Reduction factor.
        seconds: Time of all rounds; None: no limit, and all of them enter.
    """
    ready = ready_entries(entries)
    if seconds is None:
        return ready
    for count in range(len(ready), 2, -1):
        each = seconds * training_share(rounds(count, eta), 0, 0)
        needed = sum(entry.epoch_seconds + float(entry.before["scoring"]) for entry in ready[:count]) / count
        if each >= needed:
            return ready[:count]
    return ready[:2]


def ready_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Return the candidates without those that were refused."""
    return [entry for entry in entries if entry.state is not None]


def epochs_of(contest: Contest, share: float) -> int:
    """Epochs of a share of the schedule, rounded up: after no epoch all candidates would be equal."""
    return int(-(-contest.settings.fit.epochs * share // 1))


def round_name(number: int, place: int) -> str:
    """Name of the saved training at a place of a round, both from 0."""
    return f"round-{number + 1}-{place + 1}"


def train_entry(
    contest: Contest, entry: Entry, epochs: int, seconds: float | None, work: Work, label: str, *, keep_net: bool,
    keeps_time: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Train a new copy of a candidate and score it as it ships; one that fails gets the lowest score.

    A training that makes it worse is not kept: few steps at the full rate distort a body whose solved head serves well.
    In less time than the shortest training takes it stays as it was built. If it `keeps_time`, a quarter of a time
    limit is left for a training with rounding.

    Returns:
        As `scores_of`; also `epochs` and `seconds`; `failed`, the reason; `lowered_to`, the score of a training that is
        not kept, and `lowered_in`, its epochs; `untrained` if there was no time; if `keep_net`, the network's `state`.
    """
    began, settings = contest.now(), contest.settings
    if seconds is not None and seconds < contest.least_seconds(entry.epoch_seconds):
        row = {**entry.before, "epochs": 0, "untrained": True, "seconds": 0.0}
        return {**row, "state": dict(entry.state or {})} if keep_net else row
    limit = seconds and seconds / (1 + SHARE) if keeps_time else seconds
    try:
        net = entry.net().to(contest.device.torch)
        tasks, strategy = contest.tasks_for(net), contest.strategy_for(entry.network)
        history = train(
            net, tasks, strategy, settings.fit.model_copy(update={"epochs": epochs}), device=contest.device,
            seed=settings.seed, work=work, loss=contest.loss_for(net, entry.kept_outputs), label=label,
            allowance=time_allowance(limit, began, tasks[-1], contest.now),
        )  # fmt: skip
        after = scores_of(contest, net, entry.network, can_ship_float=entry.as_float is not None)
        row = {"epochs": len(history), **after}
        if after["val"] < entry.before["val"]:
            net, row = entry.net().to(contest.device.torch), {**entry.before, **lowered_row(after, len(history))}
        if keep_net:
            # The winner's rounding is trained for; of the others it would be time for a comparison alone.
            remaining = seconds and seconds - (contest.now() - began)
            net, row = recover_int8(contest, entry, net, row, epochs=epochs, seconds=remaining, work=work, label=label)
            row |= {"state": net_state(net)}
    except (GateError, ModelFileError) as error:
        row = {"epochs": 0, "val": BELOW_ALL, "float": BELOW_ALL, "ships": "", "failed": error.problem}
    return {**row, "seconds": contest.now() - began}


def lowered_row(after: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return what is noted of a training that lowered the score."""
    return {"epochs": 0, "lowered_to": after["val"], "lowered_in": epochs}


def rank_entries(remaining: Sequence[Entry], *, board: Board) -> list[Entry]:
    """Sort candidates by the score of their last training as it ships, best first; of equal ones the faster first.

    Raises:
        GateError: If all of them failed.
    """
    if all("failed" in board[entry.name][-1] for entry in remaining):
        reason = board[remaining[0].name][-1]["failed"]
        raise GateError(f"all candidates failed; the first one: {reason}", "lower fit.lr, or raise the time limit")

    def key(entry: Entry) -> tuple[float, float]:
        return -float(board[entry.name][-1]["val"]), entry.timing.ratio if entry.timing else 0.0

    return sorted(remaining, key=key)
