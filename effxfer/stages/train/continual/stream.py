"""Tasks in the order of time: their classes in the order of the network's head, which grows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Split, Task, TaskLoader, stack_splits
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.runtime.inputs import Input
from effxfer.runtime.outputs.single_label import SingleLabel

SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class AlignedLoader:
    """Decodes a task again, with its classes in the order of a network.

    Attributes:
        loader: The loader of the task.
        classes: All columns of the head, in order.
    """

    loader: TaskLoader
    classes: tuple[str, ...]

    def load(self, input: Input) -> Task:
        """Make the task as a network with this input sees it."""
        return align_task(self.loader.load(input), self.classes)


def stream_classes(net: Net, task: Task) -> tuple[str, ...]:
    """Return the columns of a head that also answers for a task: those of the network, then the task's new ones."""
    before = net.classes if net.memory else ()
    return (*before, *(name for name in task.classes if name not in before))


def align_task(task: Task, classes: tuple[str, ...]) -> Task:
    """Return a task whose labels index `classes`, which have all of its own."""
    if task.classes == classes or not isinstance(task.output, SingleLabel):
        return task
    index = np.array([classes.index(name) for name in task.classes], np.int64)

    def relabel(split: Split) -> Split:
        return replace(split, labels=index[split.labels])

    splits: dict[str, Any] = {name: relabel(getattr(task, name)) for name in ("train", "val", "test")}
    loader = None if task.loader is None else AlignedLoader(loader=task.loader, classes=classes)
    return replace(task, output=SingleLabel(classes=classes), loader=loader, **splits)


def align_tasks(net: Net, tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks with their labels in the order of the head that the last of them needs.

    Earlier tasks whose classes the head has not are left out: they come later.
    """
    classes = stream_classes(net, tasks[-1])
    fitting = [task for task in tasks[:-1] if set(task.classes) <= set(classes)]
    return [align_task(task, classes) for task in (*fitting, tasks[-1])]


def grow_head(net: Net, task: Task, seed: int) -> bool:
    """Add untrained columns for the new classes of an aligned task; return whether there are any."""
    if task.classes == net.classes:
        return False
    torch.manual_seed(seed)
    apply_edit(net, "grow_head", classes=list(task.classes))
    return True


def task_seed(net: Net, seed: int) -> int:
    """Return the seed of the next task: the same in one long run as in a new process for each task."""
    number = len(net.memory.tasks) if net.memory else 0
    return seed if not number else seed_of(seed, "task", number) % SEEDS


def join_tasks(tasks: Sequence[Task], *, training: bool = True) -> Task:
    """Return one task with the examples of all, which are aligned; unless `training` only those to measure on."""
    if len(tasks) == 1:
        return tasks[0]
    names = ("train", "val", "test") if training else ("val", "test")
    splits: dict[str, Any] = {name: stack_splits([getattr(task, name) for task in tasks]) for name in names}
    return replace(
        tasks[-1], name=" + ".join(task.name for task in tasks), loader=None, unlabelled=None, target=None,
        digest=" ".join(task.digest for task in tasks), records=tuple(r for task in tasks for r in task.records),
        stream=tuple(tasks), **splits,
    )  # fmt: skip
