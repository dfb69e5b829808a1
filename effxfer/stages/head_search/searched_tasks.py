"""The labels of each task whose head is searched, in the form of its kind."""

from dataclasses import dataclass, replace

from effxfer.data.checks.enough import require_repeats
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.runtime.multi_task.task_outputs import TaskOutputs, native_labels
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.search.judging.metrics import metric_of, metrics_for


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchedTask:
    """One task of a network: its output, and its labels in two splits, for every example.

    Attributes:
        name: Name of the task; empty for a network of one task.
        output: Kind of the labels, and the names of the head's columns.
        train: Labels of the training split, of which some may be unknown.
        val: Labels of the validation split.
        columns: Its columns among those of all tasks.
        metric: The metric to maximise.
    """

    name: str
    output: Output
    train: Labels
    val: Labels
    columns: slice
    metric: str


def searched_tasks(net: Net, task: Task, metric: str | None) -> list[SearchedTask]:
    """Return the tasks that get a search of their own: all but those that the network has only to help in training.

    Args:
        net: The network.
        task: The data.
        metric: That of the settings. Where kinds differ, tasks that have none of this name go by their main one.

    Raises:
        DataError: If every class of a task has a single training example (E313).
        SettingsError: If no task has this metric, or one answers for each position of a text.
    """
    _require_vectors(task.output)
    if isinstance(task.output, TaskOutputs):
        tasks = _labels_by_task(net, task, task.output)
    else:
        splits = {"train": task.train.labels, "val": task.val.labels}
        tasks = [SearchedTask(name="", output=task.output, columns=slice(None), metric="", **splits)]
    for each in tasks:
        if each.output.kind == "single":
            require_repeats(each.train, each.name or task.name, task.input.unit)
    return _with_metrics(tasks, metric)


def _require_vectors(output: Output) -> None:
    """Refuse labels of each position of a text.

    Raises:
        SettingsError: Naming the tasks that have such labels.
    """
    if output.per != "position":
        return
    problem = f"search judges heads on one vector for each example, the data hold kind {output.kind!r}"
    hint = "finetune gives such labels a linear head"
    if isinstance(output, TaskOutputs):
        names = [name for name, each in output.outputs.items() if each.per == "position"]
        problem = f"search judges heads on one vector for each example, and tasks tag words: {', '.join(names)}"
        hint = "finetune gives such tasks a linear head; or name the data without these columns"
    raise SettingsError(problem, hint)


def _labels_by_task(net: Net, task: Task, output: TaskOutputs) -> list[SearchedTask]:
    helping = net.output.auxiliary if isinstance(net.output, TaskOutputs) and net.classes == task.classes else ()
    columns, places = output.columns(), output.label_columns()
    return [
        SearchedTask(
            name=name, output=each, columns=columns[name], metric="",
            train=native_labels(each, task.train.labels[:, places[name]]),
            val=native_labels(each, task.val.labels[:, places[name]]),
        )
        for name, each in output.outputs.items()
        if name not in helping
    ]  # fmt: skip


def _with_metrics(tasks: list[SearchedTask], metric: str | None) -> list[SearchedTask]:
    """Choose the metric of each task: that of the settings where its kind has it, else its main one."""
    able = [metrics_for(task.output) for task in tasks]
    if len(tasks) == 1 or metric is None:
        return [replace(task, metric=metric_of(task.output, metric)) for task in tasks]
    if not any(metric in names for names in able):
        every = " or ".join(dict.fromkeys(name for names in able for name in names))
        names = ", ".join(task.name for task in tasks)
        raise SettingsError(f"metric = {metric!r} is for none of the tasks {names}", f"leave it out, or give {every}")
    pairs = zip(tasks, able, strict=True)
    return [replace(task, metric=metric if metric in names else task.output.metric) for task, names in pairs]
