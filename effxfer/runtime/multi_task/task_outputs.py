"""Several tasks of one network: an output for each, and the mean of their main metrics.

The head's columns stand side by side in the order of the tasks, and so do the labels. An example may lack the labels of
some tasks; it then counts for the others alone.

Where a task tags words, outputs are of positions, `(N, L, C)`: those of tasks of whole texts are the same at each.

Shape legend: N examples, L positions of the longest text, C columns of all tasks together, W columns of their labels.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.multi_task.task_labels import TaskLabels
from effxfer.runtime.outputs.base import Labels, Output, Score, bootstrap_deviation
from effxfer.runtime.outputs.multi_label import UNKNOWN
from effxfer.runtime.outputs.positions import PositionLabels

KINDS = ("multi", "single", "tags", "value")  # of tasks: one answer for each example, or for each word of a text
BETWEEN = "/"  # stands between a task and a class in the names of columns; no task has it in its name


class TaskPart(NamedTuple):
    """One task's share of outputs and labels.

    Attributes:
        name: The task.
        output: Its kind of label.
        raw: Outputs of the examples that it has labels of, `(n, c)`; of words `(n, L, c)`.
        labels: Their labels, as its kind has them.
    """

    name: str
    output: Output
    raw: NDArray[np.float32]
    labels: Any  # Labels | PositionLabels


@dataclass(frozen=True, kw_only=True)
class TaskOutputs:
    """One output for each task; labels are float32 `(N, W)`, NaN where unknown, and `TaskLabels` where one tags words.

    A task of single labels has one column of labels, the number of the class; others have one for each class or value.
    Tags have none of these columns.

    Attributes:
        outputs: The output of each task by its name, in the order of the head's columns.
        main: Tasks whose mean chooses the epoch; empty for all that are not auxiliary.
        auxiliary: Tasks that help in training and are left out of exported files.
    """

    kind: ClassVar[str] = "tasks"
    metric: ClassVar[str] = "score"
    title: ClassVar[str] = "score"

    outputs: Mapping[str, Output]
    main: tuple[str, ...] = ()
    auxiliary: tuple[str, ...] = ()

    @property
    def per(self) -> Literal["example", "position"]:
        """Whether a task answers for each position of a text: then all outputs are `(N, L, C)`."""
        return "position" if any(self.positions) else "example"

    @property
    def positions(self) -> tuple[bool, ...]:
        """Whether each task answers for each position of a text."""
        return tuple(output.per == "position" for output in self.outputs.values())

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

    def word_columns(self) -> dict[str, slice]:
        """Return the columns of each task of words in outputs `(N, L, C)`."""
        return {name: place for name, place in self.columns().items() if self.outputs[name].per == "position"}

    def parts(self, raw: NDArray[np.float32], labels: Labels | PositionLabels) -> Iterator[TaskPart]:
        """Yield each task that has labels, with its outputs and labels on the examples that have any."""
        for name, output in self.outputs.items():
            labelled, task_labels = self._labels_of(name, labels)
            if labelled.any():
                yield TaskPart(name, output, self.outputs_of(name, raw)[labelled], task_labels)

    def _labels_of(self, task: str, labels: Any) -> tuple[NDArray[np.bool_], Any]:
        """Return which examples have labels of a task, `(N,)`, and these labels as its kind has them."""
        output = self.outputs[task]
        if output.per == "position":
            return labels.of_words(task)  # type: ignore[no-any-return]
        numbers: NDArray[np.float32] = labels.numbers if isinstance(labels, TaskLabels) else labels
        task_numbers = numbers[:, self.label_columns()[task]]
        labelled = np.asarray(~np.isnan(task_numbers).all(1))
        return labelled, native_labels(output, task_numbers[labelled])

    def outputs_of(self, task: str, raw: NDArray[Any]) -> NDArray[Any]:
        """Return the outputs of one task, `(N, c)`, or `(N, L, c)` of words, of outputs `(N, C)` or `(N, L, C)`."""
        columns = raw[..., self.columns()[task]]
        return columns[:, 0] if raw.ndim == 3 and self.outputs[task].per == "example" else columns

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
        each = [(output, self.outputs_of(name, raw)) for name, output in self.outputs.items()]
        decided = [output.decide(part).reshape(len(raw), -1) for output, part in each]
        return np.concatenate(decided, 1).astype(np.int64)

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the answers of all tasks side by side: probabilities, or values in their units, `(N, C)`."""
        return np.concatenate([output.to_answers(part) for output, part in self._split(raw)], -1).astype(np.float64)

    def from_answers(self, answers: NDArray[Any]) -> NDArray[np.float32]:
        """Undo `to_answers`, task by task."""
        undone = [output.from_answers(part) for output, part in self._split(answers)]
        return np.concatenate(undone, -1).astype(np.float32)

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
            yield self.outputs[name], raw[..., place]


def label_width(output: Output) -> int:
    """Return the columns of a task's labels: one for single labels, none for tags, else one for each class or value."""
    return {"single": 1, "tags": 0}.get(output.kind, output.width)


def native_labels(output: Output, labels: NDArray[np.float32]) -> Labels:
    """Turn labels `(n, w)` of one task, NaN where unknown, into the form of its kind; see `data.task.Split`."""
    if output.kind == "single":
        return np.where(np.isnan(labels[:, 0]), -1, labels[:, 0]).astype(np.int64)
    return np.where(np.isnan(labels), UNKNOWN, labels).astype(np.uint8) if output.kind == "multi" else labels


def _stretches(widths: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum([0, *widths.values()]).tolist()
    return {name: slice(start, end) for name, start, end in zip(widths, ends, ends[1:], strict=False)}
