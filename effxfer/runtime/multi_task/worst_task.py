"""The gates of several tasks: the task that lost most decides, not their mean."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Labels, Output, Score
from effxfer.runtime.outputs.positions import PositionLabels


class Drop(NamedTuple):
    """How much of its score a network lost.

    Attributes:
        points: Score before less score after; of several tasks, that of the task that lost most.
        deviation: Standard deviation of `points` that chance alone gives.
        task: The task that lost most; empty for a network of one task.
    """

    points: float
    deviation: float
    task: str = ""


def main_scores(
    output: Output, raw: NDArray[np.float32], labels: Labels | PositionLabels, of: str = "images"
) -> tuple[Score, ...]:
    """Return the main metric; behind the mean of several tasks, that of each delivered task that has labels here.

    Args:
        output: The kind of the labels.
        raw: Outputs `(N, C)`.
        labels: The labels of the N examples.
        of: What the examples are.
    """
    mean = output.score(raw, labels, of)  # type: ignore[arg-type]
    if not isinstance(output, TaskOutputs):
        return (mean,)
    parts = [part for part in output.parts(raw, labels) if part.name in output.delivered]
    return mean, *(replace(part.output.score(part.raw, part.labels, of), task=part.name) for part in parts)


def worst_drop(
    output: Output, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels | PositionLabels
) -> Drop:
    """Return the largest drop of a task between two networks on the same examples.

    Args:
        output: The kind of the labels.
        before: Outputs `(N, C)` of one network.
        after: Outputs `(N, C)` of the other.
        labels: The labels of the N examples.
    """
    pairs = zip(main_scores(output, before, labels), main_scores(output, after, labels), strict=True)
    drops = {first.task: first.value - second.value for first, second in pairs}
    # Without labels of any task there is the mean alone.
    task = max((name for name in drops if name), key=lambda name: drops[name], default="")
    return Drop(drops[task], _deviation(output, before, after, labels, task), task)


def _deviation(
    output: Output, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels | PositionLabels, task: str
) -> float:
    if not isinstance(output, TaskOutputs) or not task:
        return output.drop_deviation(before, after, labels)  # type: ignore[arg-type]
    pairs = zip(output.parts(before, labels), output.parts(after, labels), strict=True)
    return next(
        part.output.drop_deviation(part.raw, other.raw, part.labels) for part, other in pairs if part.name == task
    )
