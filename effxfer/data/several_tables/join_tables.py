"""Join the decoded examples of several data tables into one task with several outputs.

Shape legend: N examples, W columns of labels of all tasks together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.tasks import as_numbers
from effxfer.data.several_tables.join_listings import AND
from effxfer.data.task import Split, Task, TaskLoader, stack_splits
from effxfer.files import digest
from effxfer.runtime.inputs import Input
from effxfer.runtime.multi_task.task_labels import TaskLabels
from effxfer.runtime.multi_task.task_outputs import TaskOutputs, label_width
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.tagging import UNLABELLED, TagLabels

SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class TablesLoader:
    """Decodes several tables again, as one task.

    Attributes:
        loaders: The loader of each table, in order.
    """

    loaders: tuple[TaskLoader, ...]

    def load(self, input: Input) -> Task:
        """Make the task as a network with this input sees it."""
        return join_tables([loader.load(input) for loader in self.loaders])


def join_tables(tables: Sequence[Task]) -> Task:
    """Return one task that asks the questions of all tables, each on its own examples.

    Args:
        tables: At least two, for one input, with different names of tasks; see `join_listings`.

    Returns:
        A task with `TaskOutputs`. `Split.tables` says which table each example is of; labels of other tables' tasks are
        unknown.
    """
    output = TaskOutputs(outputs={name: each for table in tables for name, each in outputs_of(table).items()})
    widths = [sum(map(label_width, outputs_of(table).values())) for table in tables]
    splits: dict[str, Any] = {
        name: stack_splits([
            _widen(getattr(table, name), table, number, widths, output) for number, table in enumerate(tables)
        ])
        for name in SPLIT_NAMES
    }  # fmt: skip
    loaders = [table.loader for table in tables if table.loader is not None]
    sizes = [
        f"task {table.name}: " + ", ".join(f"{n} {len(getattr(table, n))}" for n in SPLIT_NAMES) for table in tables
    ]
    return Task(
        name=AND.join(table.name for table in tables),
        output=output,
        input=tables[-1].input,
        digest=digest([[table.name, table.digest] for table in tables]),
        notes=(*(note for table in tables for note in table.notes), *sizes),
        records=tuple(record for table in tables for record in table.records),
        loader=TablesLoader(loaders=tuple(loaders)) if len(loaders) == len(tables) else None,
        **splits,
    )


def outputs_of(table: Task) -> dict[str, Output]:
    """Return the output of each task of a table; that of a single one has the table's name."""
    return dict(table.output.outputs) if isinstance(table.output, TaskOutputs) else {table.name: table.output}


def _widen(split: Split, table: Task, number: int, widths: Sequence[int], joined: TaskOutputs) -> Split:
    """Return a split of table `number` with labels for the tasks of all tables, unknown but its own."""
    wide: NDArray[Any] = np.full((len(split), sum(widths)), np.nan, np.float32)
    start = sum(widths[:number])
    wide[:, start : start + widths[number]] = _numbers_of(split.labels, table.output)
    labels: Any = wide
    if joined.per == "position":
        columns, tagged = joined.word_columns(), _tags_of(split.labels, table)
        untagged = np.full((len(split), 1), UNLABELLED, np.int64)
        tags = {name: tagged.get(name, untagged) for name in columns}
        labels = TaskLabels(np.arange(len(split)), wide, tags, columns)
    return replace(split, labels=labels, tables=np.full(len(split), number, np.int64))


def _numbers_of(labels: Any, output: Output) -> NDArray[Any]:
    """Return the labels of a table's texts, `(n, w)`; tags are not among them."""
    if isinstance(labels, TagLabels):
        return np.empty((len(labels), 0), np.float32)
    if isinstance(output, TaskOutputs):
        numbers: NDArray[Any] = labels.numbers if isinstance(labels, TaskLabels) else labels
        return numbers
    return as_numbers(output.kind, labels)


def _tags_of(labels: Any, table: Task) -> Mapping[str, NDArray[np.int64]]:
    """Return the tags of each of a table's tasks of words, `(n, L)`."""
    if isinstance(labels, TagLabels):
        return {table.name: labels.tags}
    return labels.tags if isinstance(labels, TaskLabels) else {}
