"""Measure a compressed network, or its files, on each of the tasks that it learned one after another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.continual.exemplars import exemplars_of
from effxfer.data.task import Split, Task, subset
from effxfer.deploy.cpu.targets import resolve_target
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.deploy.settings import ExportSettings
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.deliver.task_drops import compare_accuracies, drops_of, measure_tasks_of, report_forgetting
from effxfer.stages.settings.common import FILES
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.continual.kept_examples import HOLDOUTS
from effxfer.transfer.continual.learner import task_columns

DENSE, PRUNED, INT8 = "dense", "pruned", "int8"
HELD_OUT = ", held out"  # in the names of tasks whose data are not at hand
Accuracies = dict[str, Mapping[str, float]]


def report_pruned(dense: Net, net: Net, task: Task, device: Device) -> Report:
    """Compare a pruned network with the one before, on each task; the memory records what that reached.

    Args:
        dense: The network before channels were removed.
        net: The network after it; its memory is changed.
        task: Joined of the tasks that they learned, or one of them, see `learned_tasks`.
        device: Of the networks.
    """
    tasks = learned_tasks(net, task)
    if not tasks:
        return Report()
    accuracies: Accuracies = {DENSE: dense_accuracies(dense, tasks) or _measure(dense, tasks, device)}
    accuracies[PRUNED] = _measure(net, tasks, device)
    if net.memory is not None:
        # A file that is exported later is compared with it as well.
        net.memory = replace(net.memory, facts={**net.memory.facts, DENSE: dict(accuracies[DENSE])})
    return compare_accuracies(accuracies) + report_forgetting(accuracies)


def learned_tasks(net: Net, task: Task) -> tuple[Task, ...]:
    """Return the tasks to measure a network on: those at hand, or what its memory holds out of each.

    Args:
        net: The network.
        task: Joined of several tasks in time; of a single one the memory is asked.

    Returns:
        Two tasks or more, in the order of time; none if the network did not learn so, or their examples are not there.
    """
    if task.stream:
        return task.stream
    exemplars = exemplars_of(net.memory.section(HOLDOUTS)) if net.memory else None
    if net.memory is None or exemplars is None or exemplars.rows is None:
        return ()
    numbers = np.unique(exemplars.task).tolist()
    tasks = list[Task]()
    for number in numbers if len(numbers) > 1 else ():
        part = exemplars.select(np.flatnonzero(exemplars.task == number))
        val = Split(rows=part.rows, labels=part.labels, names=[""] * len(part))
        name = f"{net.memory.tasks[number]['name']}{HELD_OUT}"
        tasks.append(replace(task, name=name, val=val, test=subset(val, np.arange(0))))
    return tuple(tasks)


def dense_accuracies(net: Net, tasks: Sequence[Task]) -> dict[str, float]:
    """Return what a network reached on these tasks before it was pruned; empty if it was not, or not on all."""
    recorded = net.memory.facts.get(DENSE, {}) if net.memory else {}
    names = [part.name for part in tasks]
    return {name: float(recorded[name]) for name in names} if set(names) <= set(recorded) else {}


def _measure(net: Net, tasks: Sequence[Task], device: Device) -> dict[str, float]:
    def logits(rows: Any) -> NDArray[np.float32]:
        raw: NDArray[np.float32] = predict(net, rows, net.input, device).numpy()
        return raw

    return measure_tasks_of(logits, net.output, tasks, _columns(net))


def _columns(net: Net) -> NDArray[np.int64] | None:
    groups = task_columns(net)
    return None if groups is None else groups.cpu().numpy()


def report_files(folder: Path, net: Net, task: Task, settings: ExportSettings) -> Report:
    """Compare exported files on each task, and remove an int8 file that costs one of them too much.

    Args:
        folder: Folder of the files, before preprocessing is added to them.
        net: The exported network.
        task: See `report_pruned`.
        settings: `max_drop` is the largest loss of int8 on the validation split of any task, in points.
    """
    tasks = learned_tasks(net, task)
    if not tasks:
        return Report()
    notes = list[str]()
    if (file := folder / FILES[INT8]).exists():
        drops = drops_of(_measure_files(folder, net, tasks, settings, "val"))[INT8]
        worst = max(drops, key=lambda name: drops[name])
        if drops[worst] > settings.max_drop:
            file.unlink()
            text = f"no int8 model: it loses {drops[worst]:.2f} points on the task {worst!r}"
            notes.append(f"{text}, {settings.max_drop:g} are allowed: `max_drop`")
    accuracies: Accuracies = {DENSE: before} if (before := dense_accuracies(net, tasks)) else {}
    accuracies |= _measure_files(folder, net, tasks, settings, "test")
    return compare_accuracies(accuracies) + report_forgetting(accuracies) + Report(notes=tuple(notes))


def _measure_files(folder: Path, net: Net, tasks: Sequence[Task], settings: ExportSettings, split: str) -> Accuracies:
    accuracies: Accuracies = {}
    for precision, name in FILES.items():
        file = folder / name
        if file.exists():
            exact = precision == INT8 and TargetPolicy(resolve_target(settings.target)).exact

            def logits(rows: Any, file: Path = file, exact: bool = exact) -> NDArray[np.float32]:
                return onnx_logits(file, rows, threads=settings.threads, exact=exact)

            accuracies[precision] = measure_tasks_of(logits, net.output, tasks, _columns(net), split)
    return accuracies
