"""Let recipes compete for time, and keep the best network.

Every round of successive halving trains anew with a whole schedule of its length: a network halfway through a long one
has a high rate still and says little about how well it would end.
"""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from math import log2
from pathlib import Path
from typing import Any

from effxfer import artifact
from effxfer.benchmark.protocol.latency import compare, onnx_runner
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.data.task import Task
from effxfer.errors import GateError, SettingsError
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.report import Curve, Report, Table
from effxfer.search.halving import round_share, rounds, training_share
from effxfer.stages.runner.backbone_names import short_names
from effxfer.stages.runner.onnx_timing import exported
from effxfer.stages.settings.common import BOARD, Finetune
from effxfer.stages.settings.compete_settings import Compete
from effxfer.stages.train.finetune import accuracy_report, adapt, training_curves
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.fit import Row
from effxfer.train.state import Work

TIMING_SECONDS = 10.0
FAILED = -1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A recipe on a network.

    Attributes:
        name: Unique.
        network: What the network is called.
        net: Not trained yet; stays as it is.
        tasks: With images as the network takes them under this recipe.
        recipe: How to train it.
    """

    name: str
    network: str
    net: Net
    tasks: Sequence[Task]
    recipe: Finetune

    @property
    def shape(self) -> str:
        """What its latency depends on."""
        return f"{self.network}, {self.side} px"

    @property
    def side(self) -> int:
        """Side of its images, in pixels."""
        return self.tasks[-1].preprocess.size


Board = dict[str, dict[str, Any]]
"""What each candidate came to in its last training, by name: `val` in percent, `epochs`, `seconds`, `round`, ..."""


def compete(net: Net, tasks: Sequence[Task], settings: Compete, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Train all candidates a little and the better ones longer; give the network of the one that is left.

    Args:
        net: What the stage got; stays as it is.
        tasks: As in `finetune`. Candidates are compared on the last one's validation split; its test split is only
            looked at for the network that is kept.
        settings: Which candidates, and how long.
        device: Where.
        work: Keeps every finished training.

    Raises:
        SettingsError: If a candidate's strategy or a backbone does not exist.
        GateError: If the last training diverges, or all candidates did.
    """
    began, board = time.perf_counter(), Board()
    entered, notes = candidates(net, tasks, settings)
    left = entered
    timed = len({one.shape for one in left}) > 1
    ms = work.once("latencies", lambda: latencies(left, settings.seed)) if timed else {}
    plan, before = rounds(len(left), settings.eta), time.perf_counter() - began

    def spent() -> float:
        return before + sum(float(row["seconds"]) for row in board.values())

    def recipe(one: Candidate, number: int, place: int) -> Finetune:
        seconds = settings.seconds and max(settings.seconds - spent(), 1e-3) * training_share(plan, number, place)
        epochs = -(-one.recipe.fit.epochs * plan[number].share // 1)
        fit = one.recipe.fit.model_copy(update={"epochs": int(epochs)})
        return one.recipe.model_copy(update={"fit": fit, "seconds": seconds})

    for number, _ in enumerate(plan[:-1]):
        if len(left) == 1:
            break
        due = None if settings.seconds is None else spent() + (settings.seconds - spent()) * round_share(plan, number)
        for place, one in enumerate(left):
            if place and due is not None and spent() > due:
                left = left[:place]
                break
            name = f"round-{number + 1}-{place + 1}"
            trial = partial(tried, one, recipe(one, number, place), device, work.at(name), f"{number + 1}: {one.name}")
            board[one.name] = after(board.get(one.name), work.once(name, trial), number + 1)
        left = ranked(left, board, ms, settings.latency_penalty)[: plan[number + 1].count]
    winner, told = left[0], recipe(left[0], len(plan) - 1, 0)
    made, report, last = crowned(winner, told, device, work)
    board[winner.name] = after(board.get(winner.name), last, len(plan))
    return made, report + leaderboard(entered, board, ms) + Report(notes=notes)


def candidates(net: Net, tasks: Sequence[Task], settings: Compete) -> tuple[list[Candidate], tuple[str, ...]]:
    """Put every recipe on every network; and what there is to say of the networks' weights.

    Raises:
        SettingsError: If a strategy or a backbone does not exist, or a network is named twice.
    """
    recipes = settings.workable_recipes()
    own = Path(str(net.backbone["source"]).partition("@")[0]).name
    networks, notes = {own: net}, list[str]()
    for network, backbone in short_names(settings.backbones).items():
        if network in networks:
            raise SettingsError(f"{network} competes already", "leave it out of backbones")
        networks[network], said = artifact.open_model(backbone)
        notes += [f"{network}: {note}" for note in said]
    alone = len(networks) == 1
    found = [
        Candidate(
            name=name if alone else f"{network}, {name}", network=network, net=body, recipe=recipe,
            tasks=[
                t.with_preprocess(replace(body.preprocess, size=recipe.size or body.preprocess.size)) for t in tasks
            ],
        )
        for network, body in networks.items()
        for name, recipe in recipes.items()
    ]  # fmt: skip
    return found, tuple(notes)


def tried(one: Candidate, recipe: Finetune, device: Device, work: Work, label: str) -> dict[str, Any]:
    """Train a copy of a candidate, and score it on the validation split; one that diverges is the worst."""
    began, net, task = time.perf_counter(), deepcopy(one.net), one.tasks[-1]
    try:
        history, _ = adapt(net, one.tasks, recipe, device=device, work=work, label=label)
        found = {**told_of(history), "val": score(net, task.val, net.preprocess, device, "val").value}
    except GateError as error:
        found = {"epochs": 0.0, "passes": [], "val": FAILED, "failed": error.problem}
    return {**found, "seconds": time.perf_counter() - began}


def crowned(one: Candidate, recipe: Finetune, device: Device, work: Work) -> tuple[Net, Report, dict[str, Any]]:
    """Train the candidate that is left as `finetune` does: the network, what was measured, and its line."""
    began, net = time.perf_counter(), deepcopy(one.net)
    history, about = adapt(net, one.tasks, recipe, device=device, work=work, label=one.name)
    report = accuracy_report(net, one.tasks[-1], device)
    line = {**told_of(history), "val": report["accuracy/val"].value, "seconds": time.perf_counter() - began}
    return net, report + training_curves(history) + about, line


def told_of(history: Sequence[Row]) -> dict[str, Any]:
    """What a training says of itself on the leaderboard."""
    return {"epochs": len(history), "passes": [(row["epoch"], row["score"]) for row in history if "score" in row]}


def after(before: Mapping[str, Any] | None, now: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Add a training to a candidate's line: its time counts together, all else is that of the last one."""
    return {**now, "seconds": now["seconds"] + (before["seconds"] if before else 0.0), "round": number}


def ranked(
    left: Sequence[Candidate], board: Mapping[str, Any], ms: Mapping[str, float], penalty: float
) -> list[Candidate]:
    """Order candidates, best first; of equal ones, the one named first.

    Raises:
        GateError: If all of them diverged.
    """
    if all(board[one.name]["val"] == FAILED for one in left):
        why = board[left[0].name]["failed"]
        raise GateError(f"no candidate could be trained; the first one: {why}", "lower fit.lr, or give more time")
    fastest = min(ms.values(), default=1.0)

    def worth(one: Candidate) -> float:
        return float(board[one.name]["val"]) - penalty * log2(ms.get(one.shape, fastest) / fastest)

    return sorted(left, key=worth, reverse=True)


def latencies(entered: Sequence[Candidate], seed: int) -> dict[str, float]:
    """Time each network once for each side of its images, exported with a fresh head: p50 in ms, by shape."""
    with scratch_folder() as folder:
        runners = {}
        for number, one in enumerate({one.shape: one for one in entered}.values()):
            net = deepcopy(one.net)
            net.set_input_size(one.side)
            new_head(net, one.tasks[-1], seed)
            file = exported(net, folder / f"{number}.onnx")
            runners[one.shape] = onnx_runner(file, feed_for(file, seed=seed), 1)
        timed = compare(runners, baseline=next(iter(runners)), max_seconds=TIMING_SECONDS, seed=seed)
    return {one.name: one.p50 for one in timed}


def leaderboard(entered: Sequence[Candidate], board: Board, ms: Mapping[str, float]) -> Report:
    """Tell how all fared: those that came further first, and of one round the better ones."""
    order = sorted(
        (one for one in entered if one.name in board),
        key=lambda one: (-board[one.name]["round"], -board[one.name]["val"]),
    )
    rows = tuple(line(place, one, board[one.name], ms) for place, one in enumerate(order, 1))
    curves = tuple(
        Curve(
            title="Validation accuracy, last training of each", name=one.name, x="epoch", y="accuracy, %",
            points=tuple(map(tuple, board[one.name]["passes"])),
        )
        for one in order
        if board[one.name]["passes"]
    )  # fmt: skip
    failed = [f"{one.name}: {board[one.name]['failed']}" for one in order if "failed" in board[one.name]]
    idle = [one.name for one in entered if one.name not in board]
    late = [f"not tried, because the others took all the time there was: {', '.join(idle)}"] if idle else []
    return Report(tables=(Table(title=BOARD, rows=rows),), curves=curves, notes=(*failed, *late, *close(order, board)))


def line(place: int, one: Candidate, found: Mapping[str, Any], ms: Mapping[str, float]) -> dict[str, Any]:
    """One line of the leaderboard."""
    row = {
        "place": place,
        "candidate": one.name,
        "network": one.network,
        "strategy": one.recipe.strategy,
        "side px": one.side,
        "rounds": found["round"],
        "epochs": found["epochs"],
        "accuracy val %": None if found["val"] == FAILED else found["val"],
        "seconds": found["seconds"],
    }
    return {**row, "p50 ms": ms[one.shape]} if ms else row


def close(order: Sequence[Candidate], board: Board) -> tuple[str, ...]:
    """Say how little may have decided which candidate was trained to the end."""
    if len(order) < 2:
        return ()
    first, second = (board[one.name] for one in order[:2])
    n = len(order[0].tasks[-1].val)
    images = round(abs(first["val"] - second["val"]) * n / 100)
    return (
        f"{len(order)} candidates, judged on {n} validation images; the best was trained longest; the second, "
        f"{order[1].name}, was behind by {images} image{'s' * (images != 1)} after its last training",
    )
