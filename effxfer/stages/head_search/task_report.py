"""Report of the searches of several tasks: a row for each task, and the rows of its search by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effxfer.data.task import Split, Task
from effxfer.net.heads.spec import describe
from effxfer.net.net import Net
from effxfer.report import Report, Table
from effxfer.runtime.multi_task.task_outputs import TaskOutputs, native_labels
from effxfer.runtime.outputs.base import Output
from effxfer.search.features import has_label
from effxfer.search.finalist import SearchResult
from effxfer.search.judging.metrics import measure
from effxfer.search.space import JOIN
from effxfer.stages.head_search.searched_tasks import SearchedTask
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict, score_rows

Raw = Mapping[str, NDArray[np.float32]]
TITLE = "Heads of the tasks"


def join_tasks(reports: Mapping[str, Report]) -> Report:
    """Join the reports of the tasks' searches, with the task in every name; what all tasks note is noted once."""
    joined, tasks = Report(), dict[str, list[str]]()
    for name, report in reports.items():
        joined += Report(
            rows=tuple(replace(row, name=f"{row.name}/{name}") for row in report.rows),
            tables=tuple(replace(table, title=f"{table.title}: {name}") for table in report.tables),
            curves=tuple(replace(curve, title=f"{curve.title}: {name}") for curve in report.curves),
        )
        for note in report.notes:
            tasks.setdefault(note, []).append(name)
    every = len(reports)
    notes = [f"{'all tasks' if len(names) == every else ', '.join(names)}: {note}" for note, names in tasks.items()]
    return joined + Report(notes=tuple(notes))


def outputs_of(net: Net, splits: Mapping[str, Split], device: Device) -> Raw:
    """Return the outputs `(N, C)` of a network on some splits."""
    return {name: predict(net, split.rows, net.input, device).numpy() for name, split in splits.items()}


def task_scores(net: Net, task: Task, raw: Raw) -> Report:
    """Report the score and the metrics of every task on the splits of `raw`."""
    rows = [
        row
        for name, outputs in raw.items()
        for row in score_rows(net.output, outputs, task.reported_splits[name].labels, name, net.input.unit)
    ]
    return Report(rows=tuple(rows))


def task_table(
    tasks: Sequence[SearchedTask], task: Task, results: Sequence[SearchResult], chosen: Mapping[str, SearchResult], *,
    before: Raw, outputs_before: TaskOutputs | None, after: Raw, outputs_after: TaskOutputs,
) -> Report:  # fmt: skip
    """Report, for each task, the head before, the best one found, and that which the network has now.

    Args:
        tasks: The searched tasks.
        task: The data.
        results: Of each task's search.
        chosen: Those that were better than the head before, by task.
        before: Outputs of the network as it came, by split; empty if it had no heads for these tasks.
        outputs_before: What they mean.
        after: Outputs of the network now.
        outputs_after: What they mean.
    """
    rows = []
    for each, result in zip(tasks, results, strict=True):
        row: dict[str, object] = {"task": each.name, "metric": each.metric}
        row |= {"head": describe(result.spec), "taps": JOIN.join(result.taps)}
        labelled = has_label(each.output, each.val)
        share = measure(each.output, result.raw[labelled], each.val[labelled], each.metric)
        row |= {"found val %": 100 * share, "taken": "yes" if each.name in chosen else "no: kept"}
        for split in task.reported_splits:
            if outputs_before is not None:
                row[f"before {split} %"] = _score(each, outputs_before, before, task, split)
            row[f"now {split} %"] = _score(each, outputs_after, after, task, split)
        rows.append(row)
    return Report(tables=(Table(title=TITLE, rows=tuple(rows)),))


def _score(each: SearchedTask, outputs: TaskOutputs, raw: Raw, task: Task, split: str) -> float | None:
    assert isinstance(task.output, TaskOutputs)
    output: Output = outputs.outputs[each.name]
    labels = native_labels(output, task.reported_splits[split].labels[:, task.output.label_columns()[each.name]])
    labelled = has_label(output, labels)
    if not labelled.any():
        return None
    return 100 * measure(output, raw[split][labelled, each.columns], labels[labelled], each.metric)
