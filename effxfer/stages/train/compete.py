"""Select recipe and backbone by successive halving.

Every round trains from scratch with a full schedule of its length: halfway through a long schedule the learning rate is
still high, so an intermediate score predicts the final one badly.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from effxfer import model_source
from effxfer.benchmark.protocol.latency import compare, onnx_runner
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.data.task import Task
from effxfer.data.text_input import read_alike
from effxfer.errors import GateError, SettingsError
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.report import Report
from effxfer.runtime.inputs import Input
from effxfer.search.halving import rounds, successive_halving, training_share
from effxfer.stages.runner.backbone_names import short_names
from effxfer.stages.runner.onnx_timing import export_plain
from effxfer.stages.settings.common import Finetune
from effxfer.stages.settings.compete_settings import Compete
from effxfer.stages.train.competition.board import add_run, comparison_with, leaderboard, rank_candidates
from effxfer.stages.train.competition.candidate import FAILED, Board, Candidate
from effxfer.stages.train.continual.stream_contest import require_new, train_on_stream, train_stream_winner
from effxfer.stages.train.domain_report import target_accuracy
from effxfer.stages.train.finetune import accuracy_report, adapt, training_curves
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.fit import Row
from effxfer.train.settings import Validator
from effxfer.train.state import Work
from effxfer.transfer.domain_adaptation.validators.registry import validate_on_target
from effxfer.transfer.strategies import make_strategy

# Chosen, not measured: latency only weighs in where `latency_penalty` is set, in points per factor of two.
TIMING_SECONDS = 10.0


def compete(net: Net, tasks: Sequence[Task], settings: Compete, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Train all candidates briefly and the better ones longer; return the network of the winner.

    Args:
        net: Input network of the stage; never changed.
        tasks: See `finetune`. Candidates are compared on the validation split of the last task; its test split is only
            evaluated for the winner. Strategies of tasks in time learn all of them one after another, and are compared
            by their mean accuracy on all validation splits.
        settings: Candidates and time limit.
        device: Device of the training.
        work: Saves every finished training run for resuming.

    Raises:
        SettingsError: If a candidate's strategy or a backbone does not exist.
        GateError: If the final training run diverges, or all candidates diverged.
    """
    began, board = time.perf_counter(), Board()
    entered, notes = candidates(net, tasks, settings)
    # Recipes of one network are equally fast.
    timed = len({candidate.shape for candidate in entered}) > 1
    ms = work.once("latencies", lambda: latencies(entered, settings.seed)) if timed else {}
    plan, before = rounds(len(entered), settings.eta), time.perf_counter() - began
    if settings.validator != "source" and len(plan) > 1:
        plan[-1] = replace(plan[-1], count=2)  # the winner, and what trains on the source alone

    def seconds_spent() -> float:
        return before + sum(float(row["seconds"]) for row in board.values())

    def recipe(candidate: Candidate, number: int, place: int) -> Finetune:
        remaining_seconds = settings.seconds and max(settings.seconds - seconds_spent(), 1e-3)
        # Positive, as a limit must be, also where the rounds were late: the winner then trains for the fewest steps.
        seconds = remaining_seconds and remaining_seconds * training_share(plan, number, place)
        # Rounded up: after no epoch all candidates would be equal.
        epochs = -(-candidate.recipe.fit.epochs * plan[number].share // 1)
        fit = candidate.recipe.fit.model_copy(update={"epochs": int(epochs)})
        return candidate.recipe.model_copy(update={"fit": fit, "seconds": seconds})

    def trial(candidate: Candidate, number: int, place: int) -> tuple[str, Callable[[], dict[str, Any]]]:
        name, label = f"round-{number + 1}-{place + 1}", f"{number + 1}: {candidate.name}"
        training = recipe(candidate, number, place)
        return name, partial(
            train_candidate, candidate, training, settings.validator, device, work.part(name), label
        )  # fmt: skip

    def train_in_round(candidate: Candidate, number: int, place: int) -> None:
        board[candidate.name] = add_run(
            board.get(candidate.name), work.once(*trial(candidate, number, place)), number + 1
        )

    winner = successive_halving(
        entered, plan, train=train_in_round, spent=seconds_spent, seconds=settings.seconds,
        rank=lambda remaining: rank_candidates(remaining, board, ms, settings.latency_penalty),
        begin_round=lambda remaining, number: work.prepare(trial(one, number, k) for k, one in enumerate(remaining)),
    )  # fmt: skip
    last_round, plain = len(plan) - 1, find_rival(entered, winner, board, settings.validator)
    # Its share of the time where another is trained beside it, else all that remains.
    final = recipe(winner, last_round, 0 if plain else plan[-1].count - 1)
    trained, report, last = train_winner(winner, final, settings.validator, device, work)
    board[winner.name] = add_run(board.get(winner.name), last, len(plan))
    if plain is not None:
        full_length = recipe(plain, last_round, 1)
        rival, rival_report, last = train_winner(
            plain, full_length, settings.validator, device, work.part("source-only" if _adapts(winner) else "rival")
        )
        board[plain.name] = add_run(board.get(plain.name), last, len(plan))
        if board[winner.name]["judged"] < board[plain.name]["judged"]:
            trained, report = rival, rival_report
        notes += (comparison_with(plain, winner, board, settings.validator),)
    return trained, report + leaderboard(entered, board, ms, settings.validator) + Report(notes=notes)


def find_rival(
    entered: Sequence[Candidate], winner: Candidate, board: Board, validator: Validator
) -> Candidate | None:  # fmt: skip
    """Return the candidate to train in full beside the winner; None for none.

    By a validator it is source only. Beside a closed formula, of tasks in time, it is the best one that trains: short
    rounds tell all of the formula, and little of it.
    """
    if validator != "source":
        return source_only(entered, winner)
    if not winner.recipe.in_time or not _solves(winner):
        return None
    trained = [candidate for candidate in entered if candidate.name in board and not _solves(candidate)]
    return max(trained, key=lambda each: (board[each.name]["round"], board[each.name]["judged"]), default=None)


def _solves(candidate: Candidate) -> bool:
    return make_strategy(candidate.recipe.strategy, candidate.recipe.options).solves


def source_only(entered: Sequence[Candidate], winner: Candidate) -> Candidate | None:
    """Return the candidate that trains the winner's network on the source alone; None if that is the winner itself."""
    if not _adapts(winner):
        return None
    return next((each for each in entered if each.network == winner.network and not _adapts(each)), None)


def _adapts(candidate: Candidate) -> bool:
    return make_strategy(candidate.recipe.strategy, candidate.recipe.options).adapts_domain


def candidates(net: Net, tasks: Sequence[Task], settings: Compete) -> tuple[list[Candidate], tuple[str, ...]]:
    """Combine every recipe with every network; return the candidates and notes on the networks' weights.

    Raises:
        SettingsError: If a strategy or a backbone does not exist, or a network is named twice or has a memory.
    """
    if settings.in_time:
        require_new(net)
    recipes = settings.workable_recipes()
    input_name = Path(str(net.backbone["source"]).partition("@")[0]).name
    networks, notes = {input_name: net}, list[str]()
    for network, backbone in short_names(settings.backbones).items():
        if network in networks:
            raise SettingsError(f"backbone {network} is already a candidate", "remove it from `backbones`")
        networks[network], warnings = model_source.open_model(backbone)
        networks[network].input = read_alike(networks[network].input, net.input)
        notes += [f"{network}: {note}" for note in warnings]
    entered = [
        Candidate(
            name=name if len(networks) == 1 else f"{network}, {name}", network=network, net=body, recipe=recipe,
            tasks=[
                task.with_input(candidate_input(body, recipe)) for task in tasks
            ],
        )
        for network, body in networks.items()
        for name, recipe in recipes.items()
    ]  # fmt: skip
    return entered, tuple(notes)


def candidate_input(body: Net, recipe: Finetune) -> Input:
    """Return the input of a candidate: the network's at the recipe's size, with what its strategy needs.

    Raises:
        SettingsError: If the strategy cannot train the network.
    """
    input = make_strategy(recipe.strategy, recipe.options).input_for(body)
    return input.with_size(recipe.size or input.size)


def train_candidate(
    candidate: Candidate, recipe: Finetune, validator: Validator, device: Device, work: Work, label: str
) -> dict[str, Any]:  # fmt: skip
    """Train a copy of a candidate and score it on the validation split; a diverged run gets the lowest score."""
    began, net, task = time.perf_counter(), candidate.start_net(), candidate.tasks[-1]
    try:
        if recipe.in_time:
            row = train_on_stream(net, candidate.tasks, recipe, device, work, label)
        else:
            history, _ = adapt(net, candidate.tasks, recipe, device=device, work=work, label=label, controlled=False)
            row = {**run_summary(history), **scores_of(net, task, validator, device)}
    except GateError as error:
        row = {"epochs": 0.0, "passes": [], "val": FAILED, "judged": FAILED, "failed": error.problem}
    return {**row, "seconds": time.perf_counter() - began}


def scores_of(net: Net, task: Task, validator: Validator, device: Device) -> dict[str, float]:
    """Score a trained network: `val` in percent, `judged` by the validator, and `target` in percent for the report."""
    val = score(net, task.val, device)
    if validator == "source":
        return {"val": val, "judged": val}
    reported = target_accuracy(net, task, device) if task.target and len(task.target.test) else {}
    return {"val": val, "judged": validate_on_target(validator, net, task, device), **reported}


def train_winner(
    winner: Candidate, recipe: Finetune, validator: Validator, device: Device, work: Work
) -> tuple[Net, Report, dict[str, Any]]:  # fmt: skip
    """Train the winner like `finetune`; return the network, its report and its leaderboard entry."""
    began, net = time.perf_counter(), winner.start_net()
    if recipe.in_time:
        net, report, entry = train_stream_winner(net, winner.tasks, recipe, device, work)
        return net, report, {**entry, "seconds": time.perf_counter() - began}
    history, notes = adapt(net, winner.tasks, recipe, device=device, work=work, label=winner.name)
    report = accuracy_report(net, winner.tasks[-1], device)
    scored = {"val": report.score("val")} | scores_of(net, winner.tasks[-1], validator, device)
    entry = {**run_summary(history), **scored, "seconds": time.perf_counter() - began}
    return net, report + training_curves(history, title=net.output.title) + notes, entry


def run_summary(history: Sequence[Row]) -> dict[str, Any]:
    """Summarise a training run for the leaderboard: its epochs, and validation score by epoch."""
    return {"epochs": len(history), "passes": [(row["epoch"], row["score"]) for row in history if "score" in row]}


def latencies(entered: Sequence[Candidate], seed: int) -> dict[str, float]:
    """Measure the p50 in ms of each combination of network and input side, exported with a new head; by shape."""
    with scratch_folder() as folder:
        runners = {}
        for number, candidate in enumerate({candidate.shape: candidate for candidate in entered}.values()):
            net = candidate.start_net()
            net.set_input_size(candidate.side)
            new_head(net, candidate.tasks[-1], seed)
            file = export_plain(net, folder / f"{number}.onnx", rows=candidate.tasks[-1].val.rows)
            # One thread, as `bench` by default.
            runners[candidate.shape] = onnx_runner(file, feed_for(file, seed=seed), 1)
        timed = compare(runners, baseline=next(iter(runners)), max_seconds=TIMING_SECONDS, seed=seed)
    return {timing.name: timing.p50 for timing in timed}
