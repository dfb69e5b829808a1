"""What a network still knows of the tasks that it learned, measured on what its memory holds out of each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Measurement, Report, Table
from effxfer.train.devices import Device
from effxfer.transfer.continual.kept_examples import HOLDOUTS, read_exemplars
from effxfer.transfer.continual.learner import stream_accuracy, task_columns

TITLE = "Accuracy on each task, %, by the time it was measured"
Matrix = Sequence[Mapping[str, float]]  # after each task: the accuracy on tasks, by name


def record_accuracy(net: Net, tasks: Sequence[Task], device: Device) -> None:
    """Write into the memory what the network reaches on every task that it has learned, on what is held out of it."""
    memory = net.memory
    holdouts = read_exemplars(memory, tasks, HOLDOUTS)
    if memory is None or holdouts is None:
        return
    groups = task_columns(net)
    reached = dict[str, float]()
    for number in np.unique(holdouts.task).tolist():
        part = holdouts.select(np.flatnonzero(holdouts.task == number))
        name = str(memory.tasks[number]["name"])
        reached[name] = round(stream_accuracy(net, part.rows, part.labels, device, groups), 3)
    last: Mapping[str, Any] = {**memory.tasks[-1], "reached": reached}
    net.memory = replace(memory, tasks=(*memory.tasks[:-1], last))


def report_memory(net: Net) -> Report:
    """Report the accuracy on each task that a network learned, and what it forgot; empty without a memory."""
    memory = net.memory
    if memory is None:
        return Report()
    matrix = [dict(task.get("reached", {})) for task in memory.tasks]
    names = [str(task["name"]) for task in memory.tasks]
    rows = summarize_matrix(matrix, names)
    if not rows:
        return Report()
    count = sum(len(tensor) for name, tensor in memory.tensors.items() if name == f"{HOLDOUTS}labels")
    note = f"accuracy on tasks is measured on {count} validation examples that the memory holds out"
    return Report(rows=rows, tables=(matrix_table(matrix, names),), notes=(note,))


def matrix_table(matrix: Matrix, names: Sequence[str], title: str = TITLE) -> Table:
    """Return the table of a forgetting matrix: a row after each task, a column for each."""
    lines = [
        {"after": name, **{further: round(reached[further], 2) if further in reached else "" for further in names}}
        for name, reached in zip(names, matrix, strict=True)
    ]
    return Table(title=title, rows=tuple(lines))


def summarize_matrix(matrix: Matrix, names: Sequence[str], suffix: str = "") -> tuple[Measurement, ...]:
    """Summarize what was reached on the tasks, all that were measured at the end.

    Mean accuracy and backward transfer: Lopez-Paz and Ranzato, 2017, https://arxiv.org/abs/1706.08840. Forgetting is
    the best accuracy that a task ever had, minus its last: Chaudhry et al., 2018, https://arxiv.org/abs/1801.10112.

    Args:
        matrix: After each task, the accuracy on tasks in percent; those that were not measured are absent.
        names: The tasks, in order.
        suffix: Of the rows' names.
    """
    if not matrix or not matrix[-1]:
        return ()
    last = matrix[-1]
    mean = float(np.mean(list(last.values())))
    rows = [Measurement(name=f"accuracy/tasks{suffix}", value=mean, unit="%", n=len(last), of="tasks")]
    first = {name: row[name] for name, row in zip(names[:-1], matrix, strict=False) if name in row and name in last}
    if not first:
        return tuple(rows)
    losses = {name: max(row[name] for row in matrix[:-1] if name in row) - last[name] for name in first}
    worst = max(losses, key=lambda name: losses[name])
    points = {
        "backward transfer": float(np.mean([last[name] - reached for name, reached in first.items()])),
        "forgetting": float(np.mean(list(losses.values()))),
    }
    rows += [
        Measurement(name=name + suffix, value=value, unit="points", n=len(first), of="earlier tasks")
        for name, value in points.items()
    ]
    return (*rows, Measurement(name=f"worst forgetting{suffix}", value=losses[worst], unit="points", of=worst))
