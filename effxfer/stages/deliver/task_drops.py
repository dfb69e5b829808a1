"""What compression costs each of the tasks that a network learned one after another: the worst one counts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.task import Task
from effxfer.errors import GateError
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.outputs.base import Output

TITLE = "Accuracy on each task, %"
Logits = Callable[[Any], NDArray[np.float32]]
Examined = tuple[Logits, Output, Sequence[Task]]


def compare_tasks(models: Mapping[str, Examined], max_drop: float | None = None) -> Report:
    """Measure models on the test split of each task, and what they lose against the first one.

    Args:
        models: By name, a function from rows to logits `(N, C)`, the kind of label, and the tasks with labels in the
            order of its columns.
        max_drop: Largest loss on any task, in points; None: no limit.

    Returns:
        A table with a column for each task, and of every model but the first `worst task/MODEL/drop`.

    Raises:
        GateError: If a model loses more than `max_drop` on a task (E605).
    """
    accuracies = {name: _measure(*model) for name, model in models.items()}
    first = next(iter(accuracies.values()))
    rows = list[Measurement]()
    for name, reached in list(accuracies.items())[1:]:
        drops = {task: first[task] - reached[task] for task in first}
        worst = max(drops, key=lambda task: drops[task])
        rows.append(Measurement(name=f"worst task/{name}/drop", value=drops[worst], unit="points", of=worst))
        if max_drop is not None and drops[worst] > max_drop:
            text = f"{name} loses {drops[worst]:.2f} points on the task {worst!r}, {max_drop:g} are allowed"
            mean = float(np.mean(list(drops.values())))
            hint = f"its mean loss is {mean:.2f}: recover with examples of all tasks, or compress less"
            raise GateError(text, hint, code="E605")
    lines = [
        {
            "model": name,
            **{task: round(value, 2) for task, value in reached.items()},
            "mean": round(float(np.mean(list(reached.values()))), 2),
        }
        for name, reached in accuracies.items()
    ]
    return Report(rows=tuple(rows), tables=(Table(title=TITLE, rows=tuple(lines)),))


def _measure(logits: Logits, output: Output, tasks: Sequence[Task]) -> dict[str, float]:
    splits = {task.name: task.test if len(task.test) else task.val for task in tasks}
    return {name: output.score(logits(split.rows), split.labels).value for name, split in splits.items()}
