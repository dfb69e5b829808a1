"""Learn tasks one after another, beside their controls."""

from collections.abc import Sequence
from copy import deepcopy

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.settings.continual_settings import Continual
from effxfer.stages.train.continual.forgetting import Forgetting, measure_tasks
from effxfer.stages.train.continual.memory_report import report_memory
from effxfer.stages.train.continual.stream import align_tasks, join_tasks
from effxfer.stages.train.continual.stream_controls import train_controls
from effxfer.stages.train.finetune import accuracy_report, adapt
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer.continual.learner import task_columns


def continual(
    net: Net, tasks: Sequence[Task], settings: Continual, *, device: Device, work: Work
) -> tuple[Net, Report]:  # fmt: skip
    """Learn the tasks that the network has not learned yet, in order, and measure all of them.

    Args:
        net: Network, changed in place: its head grows, and it gets a memory.
        tasks: Tasks in the order of time; those in the network's memory are only measured.
        settings: Strategy, length and controls.
        device: Device of the training.
        work: Saves every finished task for resuming.

    Raises:
        SettingsError: If the network has learned all of them.
    """
    learned = {(task["name"], task["digest"]) for task in (net.memory.tasks if net.memory else ())}
    new = [task for task in tasks if (task.name, task.digest) not in learned]
    if not new:
        raise SettingsError("the network has learned these tasks already", "give the data of another one")
    start = deepcopy(net.cpu())
    forgetting, notes = learn_tasks(net, tasks, new, settings, device, work)
    joined = join_tasks(align_tasks(net, tasks), training=False)
    report = accuracy_report(net, joined, device, groups=task_columns(net))
    controls = train_controls(start, tasks, new, forgetting, settings, device, work)
    return net, report + forgetting.report() + controls + report_memory(net) + notes


def learn_tasks(
    net: Net, tasks: Sequence[Task], new: Sequence[Task], settings: Continual, device: Device, work: Work
) -> tuple[Forgetting, Report]:
    """Learn new tasks one after another; return what was reached on all that are at hand, and notes."""
    forgetting, notes = Forgetting(), Report()
    for task in new:
        number = len(net.memory.tasks) if net.memory else 0
        visible = [*tasks[: tasks.index(task)], task]
        forgetting.note_before(task, measure_tasks(net, [task], device))
        label = f"{settings.strategy}: {task.name}"
        _, reasons = adapt(net, visible, settings, device=device, work=work.part(f"task-{number}"), label=label)
        net.eval()
        notes += reasons
        forgetting.note_after(task.name, measure_tasks(net, visible, device))
    return forgetting, notes
