"""Several tasks of one network: an output for each, and the mean of their main metrics.

The head's columns stand side by side in the order of the tasks, and so do the labels. An example may lack the labels of
some tasks; it then counts for the others alone.

Shape legend: N examples, C columns of all tasks together, W columns of their labels.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Labels, Output, Score, bootstrap_deviation
from effxfer.runtime.outputs.multi_label import UNKNOWN

KINDS = ("multi", "single", "value")  # of tasks: one answer for each example
BETWEEN = "/"  # stands between a task and a class in the names of columns; no task has it in its name


class TaskPart(NamedTuple):
    """One task's share of outputs and labels.

    Attributes:
        name: The task.
        output: Its kind of label.
        raw: Outputs of the examples that it has labels of, `(n, c)`.
        labels: Their labels, as its kind has them.
    """

    name: str
    output: Output
    raw: NDArray[np.float32]
    labels: Labels


@dataclass(frozen=True, kw_only=True)
class TaskOutputs:
    """One output for each task; labels are float32 `(N, W)`, NaN where unknown.

    A task of single labels has one column of labels, the number of the class; others have one for each class or value.

    Attributes:
        outputs: The output of each task by its name, in the order of the head's columns.
        main: Tasks whose mean chooses the epoch; empty for all that are not auxiliary.
        auxiliary: Tasks that help in training and are left out of exported files.
    """

    kind: ClassVar[str] = "tasks"
    metric: ClassVar[str] = "score"
    title: ClassVar[str] = "score"
    per: ClassVar[Literal["example", "position"]] = "example"

    outputs: Mapping[str, Output]
    main: tuple[str, ...] = ()
    auxiliary: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the head's columns."""
        return tuple(self.outputs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the columns, `TASK/CLASS`."""
        return tuple(f"{name}{BETWEEN}{each}" for name, output in self.outputs.items() for each in output.classes)

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(output.width for output in self.outputs.values())

    @property
    def selecting(self) -> tuple[str, ...]:
        """Tasks whose mean chooses the epoch."""
        return self.main or self.delivered

    @property
    def delivered(self) -> tuple[str, ...]:
        """Tasks that exported files answer."""
        return tuple(name for name in self.outputs if name not in self.auxiliary)

    def columns(self) -> dict[str, slice]:
        """Return the columns of each task in outputs `(N, C)`."""
        return _stretches({name: output.width for name, output in self.outputs.items()})

    def label_columns(self) -> dict[str, slice]:
        """Return the columns of each task in labels `(N, W)`."""
        return _stretches({name: label_width(output) for name, output in self.outputs.items()})

    def parts(self, raw: NDArray[np.float32], labels: Labels) -> Iterator[TaskPart]:
        """Yield each task that has labels, with its outputs and labels on the examples that have any."""
        columns, places = self.columns(), self.label_columns()
        for name, output in self.outputs.items():
            task_labels = labels[:, places[name]]
            labelled = ~np.isnan(task_labels).all(1)
            if labelled.any():
                yield TaskPart(name, output, raw[labelled, columns[name]], native_labels(output, task_labels[labelled]))

    def score(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> Score:
        """Return the mean over the selecting tasks of their main metrics; see `Output.score`."""
        return self._mean({part.name: part.output.score(part.raw, part.labels, of) for part in self.parts(raw, labels)},
                          len(labels), of)  # fmt: skip

    def scores(self, raw: NDArray[np.float32], labels: Labels, of: str = "images") -> tuple[Score, ...]:
        """Return the mean, and every metric of every task."""
        each = {part.name: part.output.scores(part.raw, part.labels, of) for part in self.parts(raw, labels)}
        mean = self._mean({name: scores[0] for name, scores in each.items()}, len(labels), of)
        return mean, *(replace(score, task=name) for name, scores in each.items() for score in scores)

    def _mean(self, scores: Mapping[str, Score], n: int, of: str) -> Score:
        values = [score.value for name, score in scores.items() if name in self.selecting]
        return Score(metric=self.metric, value=float(np.mean(values)) if values else 0.0, n=n, of=of)

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels) -> float:
        """Estimate the deviation of the difference of two means by the bootstrap over examples."""
        return bootstrap_deviation(self, before, after, labels)

    def decide(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the decisions of all tasks side by side, int64 `(N, any)`."""
        decided = [output.decide(part).reshape(len(raw), -1) for output, part in self._split(raw)]
        return np.concatenate(decided, 1).astype(np.int64)

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the answers of all tasks side by side: probabilities, or values in their units, `(N, C)`."""
        return np.concatenate([output.to_answers(part) for output, part in self._split(raw)], 1).astype(np.float64)

    def from_answers(self, answers: NDArray[Any]) -> NDArray[np.float32]:
        """Undo `to_answers`, task by task."""
        undone = [output.from_answers(part) for output, part in self._split(answers)]
        return np.concatenate(undone, 1).astype(np.float32)

    def of_answers(self) -> "TaskOutputs":
        """Return the output of a network that gives answers itself."""
        return replace(self, outputs={name: output.of_answers() for name, output in self.outputs.items()})

    def fit_decision(self, raw: NDArray[np.float32], labels: Labels) -> "TaskOutputs":
        """Choose the thresholds of each task on validation examples."""
        fitted = {part.name: part.output.fit_decision(part.raw, part.labels) for part in self.parts(raw, labels)}
        return replace(self, outputs={**self.outputs, **fitted})

    def select(self, names: Collection[str]) -> "Output":
        """Return the output of some tasks; of a single one its own."""
        outputs = {name: output for name, output in self.outputs.items() if name in names}
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        main, auxiliary = (tuple(name for name in each if name in outputs) for each in (self.main, self.auxiliary))
        return TaskOutputs(outputs=outputs, main=main, auxiliary=auxiliary)

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        tasks = [{"name": name, **output.to_json()} for name, output in self.outputs.items()]
        roles = {"main": list(self.main), "auxiliary": list(self.auxiliary)}
        return {"kind": self.kind, "tasks": tasks, **{role: names for role, names in roles.items() if names}}

    def _split(self, raw: NDArray[Any]) -> Iterator[tuple[Output, NDArray[Any]]]:
        for name, place in self.columns().items():
            yield self.outputs[name], raw[:, place]


def label_width(output: Output) -> int:
    """Return the columns of a task's labels: one for single labels, else one for each class or value."""
    return 1 if output.kind == "single" else output.width


def native_labels(output: Output, labels: NDArray[np.float32]) -> Labels:
    """Turn labels `(n, w)` of one task, NaN where unknown, into the form of its kind; see `data.task.Split`."""
    if output.kind == "single":
        return np.where(np.isnan(labels[:, 0]), -1, labels[:, 0]).astype(np.int64)
    return np.where(np.isnan(labels), UNKNOWN, labels).astype(np.uint8) if output.kind == "multi" else labels


def _stretches(widths: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum([0, *widths.values()]).tolist()
    return {name: slice(start, end) for name, start, end in zip(widths, ends, ends[1:], strict=False)}
