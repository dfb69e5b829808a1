"""The forgetting matrix: accuracy on each task after each task, and what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Measurement, Report, Table
from effxfer.stages.train.continual.memory_report import summarize_matrix
from effxfer.stages.train.continual.stream import align_task
from effxfer.train.devices import Device
from effxfer.transfer.continual.learner import stream_accuracy, task_columns

TITLE = "Forgetting: accuracy on the test split of each task, %, after each"


def measure_tasks(net: Net, tasks: Sequence[Task], device: Device) -> dict[str, float]:
    """Measure the tasks whose classes the head has: accuracy in percent by name, on the test split if there is one.

    In the scenario `task`, each example is judged among the classes of its task.
    """
    groups = task_columns(net)
    reached = dict[str, float]()
    for task in tasks:
        if set(task.classes) <= set(net.classes):
            aligned = align_task(task, net.classes)
            split = aligned.test if len(aligned.test) else aligned.val
            reached[task.name] = stream_accuracy(net, split.rows, split.labels, device, groups)
    return reached


@dataclass
class Forgetting:
    """What was reached on tasks at hand while they were learned.

    Attributes:
        names: The tasks that were learned, in order.
        matrix: After each, the accuracy on all at hand.
        prior: Accuracy on a task before it was learned, where the head had its classes.
        chance: Accuracy on it of answers drawn by chance.
    """

    names: list[str] = field(default_factory=list)
    matrix: list[dict[str, float]] = field(default_factory=list)
    prior: dict[str, float] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)

    def note_before(self, task: Task, reached: Mapping[str, float]) -> None:
        """Note what is reached on a task before it is learned."""
        if self.names or task.name in reached:
            self.prior |= reached
            self.chance[task.name] = 100 / len(task.classes)

    def note_after(self, name: str, reached: Mapping[str, float]) -> None:
        """Note what is reached after a task."""
        self.names.append(name)
        self.matrix.append(dict(reached))

    @property
    def mean(self) -> float:
        """Mean accuracy over tasks in the end, in percent."""
        return float(np.mean(list(self.matrix[-1].values())))

    def columns(self) -> list[str]:
        """Return the tasks that were measured: earlier ones that were at hand first."""
        return [*(name for name in self.matrix[-1] if name not in self.names), *self.names]

    def summary(self) -> dict[str, float | str]:
        """Return the last row, its mean and the mean forgetting, for a table."""
        last = {name: round(self.matrix[-1][name], 2) for name in self.columns()}
        losses = [row for row in summarize_matrix(self.matrix, self.names) if row.name == "forgetting"]
        return {**last, "mean": round(self.mean, 2), "forgetting": round(losses[0].value, 2) if losses else ""}

    def report(self) -> Report:
        """Report the matrix, mean accuracy, backward and forward transfer, and forgetting."""
        rows = list(summarize_matrix(self.matrix, self.names, "/test"))
        first = self.names[0]
        if prior := {name: value for name, value in self.prior.items() if name != first}:
            value = float(np.mean(list(prior.values())))
            rows.append(Measurement(name="accuracy before learning", value=value, unit="%", n=len(prior), of="tasks"))
            # Lopez-Paz and Ranzato subtract what random weights reach, which is chance.
            transfer = float(np.mean([reached - self.chance[name] for name, reached in prior.items()]))
            row = Measurement(name="forward transfer", value=transfer, unit="points", n=len(prior), of="later tasks")
            rows.append(row)
        columns = self.columns()
        lines = [
            {"after": name, **{c: round(row[c], 2) if c in row else "" for c in columns}}
            for name, row in zip(self.names, self.matrix, strict=True)
        ]
        return Report(rows=tuple(rows), tables=(Table(title=TITLE, rows=tuple(lines)),))
