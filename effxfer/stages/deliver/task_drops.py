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
FAR_BELOW = -1e4  # as a logit: no class of another task wins
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
    return compare_accuracies({name: measure_tasks_of(*model) for name, model in models.items()}, max_drop)


def compare_accuracies(
    accuracies: Mapping[str, Mapping[str, float]], max_drop: float | None = None, title: str = TITLE
) -> Report:
    """Compare what models reach on each task with the first one, see `compare_tasks`.

    Args:
        accuracies: By name of the model, the accuracy or another metric in percent on each task, in the order of time.
        max_drop: See `compare_tasks`.
        title: Title of the table.
    """
    rows = list[Measurement]()
    for name, drops in drops_of(accuracies).items():
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
    return Report(rows=tuple(rows), tables=(Table(title=title, rows=tuple(lines)),))


def drops_of(accuracies: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return what each model but the first loses on each task against the first, in points."""
    first = next(iter(accuracies.values()))
    return {
        name: {task: first[task] - reached[task] for task in first}
        for name, reached in list(accuracies.items())[1:]
    }  # fmt: skip


def report_forgetting(accuracies: Mapping[str, Mapping[str, float]]) -> Report:
    """Report what compression makes a network forget: the mean loss on all tasks but the last, by model.

    Args:
        accuracies: See `compare_accuracies`; the first model is the network before compression.
    """
    first = next(iter(accuracies))
    rows = list[Measurement]()
    for name, drops in drops_of(accuracies).items():
        earlier = list(drops.values())[:-1]
        if earlier:
            value, of = float(np.mean(earlier)), f"earlier tasks, against {first}"
            rows.append(Measurement(name=f"forgetting/{name}", value=value, unit="points", n=len(earlier), of=of))
    return Report(rows=tuple(rows))


def measure_tasks_of(
    logits: Logits, output: Output, tasks: Sequence[Task], groups: NDArray[np.int64] | None = None, split: str = "test"
) -> dict[str, float]:
    """Return the score of a model on each task, in percent.

    Args:
        logits: Function from rows to logits `(N, C)`.
        output: The kind of label.
        tasks: Tasks with labels in the order of its columns.
        groups: The task of each column `(C,)`, where the task of each example is known; None if any class competes.
        split: `val` or `test`; the validation split stands for an empty test split.
    """
    reached = dict[str, float]()
    for task in tasks:
        examples = task.test if split == "test" and len(task.test) else task.val
        raw = logits(examples.rows)
        if groups is not None:
            raw = np.where(groups[np.asarray(examples.labels)][:, None] == groups, raw, np.float32(FAR_BELOW))
        reached[task.name] = output.score(raw, examples.labels).value
    return reached
