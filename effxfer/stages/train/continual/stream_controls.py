"""Controls of learning tasks in time: plain fine-tuning, all tasks at once, and the nearest mean on a frozen body."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.edits import remove_head
from effxfer.net.net import Net
from effxfer.report import Measurement, Report, Table
from effxfer.stages.settings.continual_settings import Continual
from effxfer.stages.train.continual.forgetting import Forgetting, measure_tasks
from effxfer.stages.train.continual.stream import align_task, join_tasks
from effxfer.stages.train.finetune import adapt
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy

NAIVE, JOINT, NEAREST = "naive", "joint", "nearest mean"


def train_controls(
    start: Net, tasks: Sequence[Task], new: Sequence[Task], forgetting: Forgetting, settings: Continual,
    device: Device, work: Work,
) -> Report:  # fmt: skip
    """Compare what was learned with its controls, on the tasks at hand.

    Args:
        start: The network before; copied.
        tasks: All tasks at hand.
        new: Those that were learned.
        forgetting: What the strategy reached.
        settings: Settings of the stage.
        device: Device of the training.
        work: Saves finished controls.
    """
    if settings.controls == "none":
        return Report()
    rows = {settings.strategy: forgetting}
    if settings.controls == "full":
        rows[NAIVE] = _naive(deepcopy(start), tasks, new, settings, device, work)
        rows[JOINT] = _joint(deepcopy(start), tasks, settings, device, work)
    if settings.strategy != "nearest_mean":
        rows[NEAREST] = _nearest_mean(deepcopy(start), tasks, settings, device)
    measured = [
        Measurement(name=f"accuracy/tasks/{name}", value=control.mean, unit="%", n=len(control.matrix[-1]), of="tasks")
        for name, control in rows.items() if name != settings.strategy
    ]  # fmt: skip
    return Report(rows=tuple(measured), tables=(_table(rows),), notes=_notes(rows, settings.strategy))


def _notes(rows: Mapping[str, Forgetting], strategy: str) -> tuple[str, ...]:
    present, nearest = rows[strategy], rows.get(NEAREST)
    if nearest is None or nearest.mean < present.mean:
        return ()
    text = f"the nearest mean on the frozen body reaches {nearest.mean:.2f} %, {strategy} {present.mean:.2f} %"
    return (f"{text}: `strategy=nearest_mean` needs no training and forgets nothing",)


def _table(rows: Mapping[str, Forgetting]) -> Table:
    lines = [{"learned by": name, **forgetting.summary()} for name, forgetting in rows.items()]
    return Table(title="Accuracy on each task in the end, %", rows=tuple(lines))


def _naive(
    net: Net, tasks: Sequence[Task], new: Sequence[Task], settings: Continual, device: Device, work: Work
) -> Forgetting:  # fmt: skip
    """Fine-tune on one task after another, without what was kept of earlier ones."""
    scenario = str(settings.options.get("scenario", "class"))
    if net.memory:
        facts = {"strategy": "replay", "scenario": scenario, "visited": 0}
        net.memory = Memory(tasks=net.memory.tasks, facts=facts)
    options = {**shared_options(settings), "memory": 0, "holdout": 0, "scenario": scenario}
    plain = settings.model_copy(update={"strategy": "replay", "options": options})
    forgetting = Forgetting()
    for task in new:
        number = len(net.memory.tasks) if net.memory else 0
        visible = [*tasks[: tasks.index(task)], task]
        part = work.part(f"naive-{number}")
        adapt(net, visible, plain, device=device, work=part, label=f"{NAIVE}: {task.name}")
        forgetting.note_after(task.name, measure_tasks(net, visible, device))
    return forgetting


def _joint(net: Net, tasks: Sequence[Task], settings: Continual, device: Device, work: Work) -> Forgetting:
    """Fine-tune on all tasks at hand at once."""
    classes = tuple(dict.fromkeys(name for task in tasks for name in task.classes))
    remove_head(net)
    net.memory = None
    task = join_tasks([align_task(task, classes) for task in tasks])
    plain = settings.model_copy(update={"strategy": "full", "options": shared_options(settings)})
    adapt(net, [task], plain, device=device, work=work.part("joint"), label=JOINT)
    net.memory = _columns(tasks, settings)
    forgetting = Forgetting()
    forgetting.note_after(tasks[-1].name, measure_tasks(net, tasks, device))
    return forgetting


def _nearest_mean(net: Net, tasks: Sequence[Task], settings: Continual, device: Device) -> Forgetting:
    """Compare with the mean features of each class on the body as it came."""
    remove_head(net)
    net.memory = None
    options = {"scenario": str(settings.options.get("scenario", "class")), "holdout": 0}
    plain = settings.model_copy(update={"strategy": "nearest_mean", "options": options})
    forgetting = Forgetting()
    for task in tasks:
        adapt(net, [task], plain, device=device, work=Work(None), label=NEAREST)
        forgetting.note_after(task.name, measure_tasks(net, tasks[: tasks.index(task) + 1], device))
    return forgetting


def _columns(tasks: Sequence[Task], settings: Continual) -> Memory:
    """Return a memory that says which classes belong to which task, to measure in the scenario `task`."""
    entries = tuple({"name": task.name, "digest": task.digest, "classes": list(task.classes)} for task in tasks)
    return Memory(tasks=entries, facts={"scenario": settings.options.get("scenario", "class")})


def shared_options(settings: Continual) -> dict[str, Any]:
    """Return the options that every strategy has, such as the batch size."""
    return {name: value for name, value in settings.options.items() if name in Strategy.model_fields}
