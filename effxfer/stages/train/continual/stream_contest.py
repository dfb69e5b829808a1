"""Train the candidates of a competition on tasks in the order of time, and judge them on all of these.

Judged is the mean accuracy over tasks on their validation splits, after the last one: of what was learned last alone,
plain fine-tuning knows most.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.settings.common import Finetune
from effxfer.stages.settings.continual_settings import Continual
from effxfer.stages.train.continual.continual import continual
from effxfer.stages.train.continual.stream import align_task
from effxfer.stages.train.finetune import adapt
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer.continual.learner import stream_accuracy, task_columns
from effxfer.transfer.strategies import make_strategy

Entry = dict[str, Any]


def require_new(net: Net) -> None:
    """Refuse a network that has learned tasks, whose memory belongs to one strategy.

    Raises:
        SettingsError: If it has.
    """
    if net.memory is not None:
        strategy = net.memory.facts.get("strategy")
        text = f"strategies in time compete from a network without a memory, this one has that of {strategy!r}"
        raise SettingsError(text, f"go on with `effxfer continual` and strategy {strategy}")


def train_on_stream(
    net: Net, tasks: Sequence[Task], recipe: Finetune, device: Device, work: Work, label: str
) -> Entry:  # fmt: skip
    """Learn tasks one after another; return the entry of the leaderboard, see `score_stream`."""
    epochs = 0
    for number, task in enumerate(tasks):
        part = work.part(f"task-{number}")
        title = f"{label}, {task.name}"
        history, _ = adapt(
            net, tasks[: number + 1], recipe, device=device, work=part, label=title, controlled=False
        )  # fmt: skip
        net.eval()
        epochs += len(history)
    return {"epochs": epochs, "passes": [], **score_stream(net, tasks, device)}


def score_stream(net: Net, tasks: Sequence[Task], device: Device) -> Entry:
    """Return the accuracy in percent on the validation split of each task, as `tasks`, and their mean, as `judged`."""
    groups, reached = task_columns(net), dict[str, float]()
    for task in tasks:
        val = align_task(task, net.classes).val
        reached[task.name] = stream_accuracy(net, val.rows, val.labels, device, groups)
    mean = float(np.mean(list(reached.values())))
    return {"val": mean, "judged": mean, "tasks": reached}


def train_stream_winner(
    net: Net, tasks: Sequence[Task], recipe: Finetune, device: Device, work: Work
) -> tuple[Net, Report, Entry]:  # fmt: skip
    """Learn tasks as the stage `continual` does; return the network, its report and its entry of the leaderboard."""
    plain = {name: value for name, value in recipe.plain().items() if name in Continual.model_fields}
    net, report = continual(net, tasks, Continual(**{**plain, "controls": "none"}), device=device, work=work)
    solves = make_strategy(recipe.strategy, recipe.options).solves
    epochs = 0 if solves else recipe.fit.epochs * len(tasks)
    return net, report, {"epochs": epochs, "passes": [], **score_stream(net, tasks, device)}


def stream_notes(names: Sequence[str], board: Mapping[str, Entry], tasks: Sequence[Task]) -> tuple[str, ...]:
    """Say what candidates were compared by, how far the second is behind, and whether a shorter run was better.

    Args:
        names: Candidates in the order of the leaderboard, the winner first.
        board: Their entries.
        tasks: The tasks.
    """
    first, second = names[:2]
    behind = board[first]["judged"] - board[second]["judged"]
    text = (
        f"{len(names)} candidates were compared by their mean accuracy on the validation splits of {len(tasks)} tasks"
    )
    notes = [
        f"{text}, after the last one; {first} was chosen, {second} was {behind:.2f} points behind after its last run"
    ]
    best = max(names, key=lambda name: float(board[name]["judged"]))
    if board[best]["judged"] > board[first]["judged"]:
        figures = f"{board[best]['judged']:.2f} % against {board[first]['judged']:.2f} % of {first}"
        notes.append(
            f"{best}, which left in an earlier round, reached {figures}: train it alone by `effxfer continual`"
        )
    return tuple(notes)
