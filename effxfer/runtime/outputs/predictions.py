"""What a model says about one example, by the kind of label.

Shape legend: N examples, C columns of the output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output

Ranked = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Prediction:
    """Prediction of a model of single labels for one example.

    Attributes:
        label: The most probable class.
        probability: Its softmax probability, in [0, 1].
        top: The most probable classes with their probabilities, best first.
    """

    label: str
    probability: float
    top: Ranked

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with probabilities to six digits."""
        ranked = _plain(self.top)
        return {**ranked[0], "top": ranked}


@dataclass(frozen=True)
class UnknownPrediction:
    """Prediction of a model of enrolled classes for an example that is near to none of them.

    Attributes:
        top: The nearest classes with their probabilities among the enrolled ones, best first.
        label: None.
    """

    top: Ranked
    label: None = None

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with probabilities to six digits."""
        return {"label": None, "top": _plain(self.top)}


@dataclass(frozen=True)
class MultiLabelPrediction:
    """Prediction of a model of several labels for one example.

    Attributes:
        labels: The classes above their thresholds, with probabilities, best first; may be empty.
        top: The most probable classes with their probabilities, best first, whether they apply or not.
    """

    labels: Ranked
    top: Ranked

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with probabilities to six digits."""
        return {"labels": _plain(self.labels), "top": _plain(self.top)}


@dataclass(frozen=True)
class RegressionPrediction:
    """Prediction of a model of values for one example.

    Attributes:
        values: The numbers in their units, by name.
    """

    values: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Entity:
    """An entity of a text.

    Attributes:
        text: Its characters, as they stand in the text.
        type: Its type, such as `PER`.
        start: Its first character; of words that a caller gave, the number of the first word.
        end: The character, or the word, behind its last.
        probability: The smallest among its words, in [0, 1].
    """

    text: str
    type: str
    start: int
    end: int
    probability: float

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with the probability to six digits."""
        return {**asdict(self), "probability": round(self.probability, 6)}


@dataclass(frozen=True)
class TaggedWord:
    """A word with its tag; see `Entity` for the other attributes."""

    text: str
    tag: str
    start: int
    end: int
    probability: float

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with the probability to six digits."""
        return {**asdict(self), "probability": round(self.probability, 6)}


@dataclass(frozen=True)
class TaggingPrediction:
    """Prediction of a model of tags for one text.

    Attributes:
        entities: In the order of the text; none where tags mark no entities.
        words: All words with their tags; a word that was cut off has the tag `O` and the probability 0.
        has_entities: Whether tags mark entities.
        has_places: Whether the text came as a whole, so that offsets are of characters.
    """

    entities: tuple[Entity, ...]
    words: tuple[TaggedWord, ...]
    has_entities: bool = True
    has_places: bool = True

    @property
    def tags(self) -> tuple[str, ...]:
        """The tag of each word."""
        return tuple(word.tag for word in self.words)

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values: entities, for words that a caller gave their tags too; or words with tags."""
        if not self.has_entities:
            return {"words": [word.to_json() for word in self.words]}
        entities = {"entities": [entity.to_json() for entity in self.entities]}
        return entities if self.has_places else {**entities, "tags": list(self.tags)}


@dataclass(frozen=True)
class SpanPrediction:
    """Prediction of a model of answers for one question.

    Attributes:
        text: The answer as it stands in the context; None for no answer.
        start: Its first character in the context; None without an answer.
        end: The character behind its last; None without an answer.
        probability: Of this beginning and this end, in [0, 1]; without an answer that of none.
    """

    text: str | None
    start: int | None
    end: int | None
    probability: float

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with the probability to six digits."""
        plain = {"answer": self.text, "start": self.start, "end": self.end}
        return {**plain, "probability": round(self.probability, 6)}


@dataclass(frozen=True)
class TaskPrediction:
    """Prediction of a model of several tasks for one example.

    Attributes:
        tasks: The prediction of each task, by its name.
    """

    tasks: "Mapping[str, Prediction | MultiLabelPrediction | RegressionPrediction | TaggingPrediction]"

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, by task."""
        return {"tasks": {name: prediction.to_json() for name, prediction in self.tasks.items()}}


def to_predictions(output: Output, answers: NDArray[Any], decisions: NDArray[Any], top: int) -> list[Any]:
    """Turn outputs into predictions.

    Args:
        output: The kind of label, and the names of the columns.
        answers: Probabilities, or values in their units, `(N, C)`.
        decisions: Result of `Output.decide`.
        top: Classes to name, from 1 to all.
    """
    if isinstance(output, TaskOutputs):
        return _to_task_predictions(output, answers, top)
    pairs, top = zip(answers, decisions, strict=True), max(top, 1)
    if output.kind == "value":
        return [RegressionPrediction(dict(zip(output.classes, row.tolist(), strict=True))) for row, _ in pairs]
    if output.kind == "multi":
        return [_several_labels(output.classes, row, applies, top) for row, applies in pairs]
    return [_single_label(output.classes, row, top) for row, _ in pairs]


def _to_task_predictions(output: TaskOutputs, answers: NDArray[Any], top: int) -> list[TaskPrediction]:
    columns, by_task = output.columns(), dict[str, list[Any]]()
    for name, each in output.outputs.items():
        task_answers = answers[:, columns[name]]
        # By the answers: those of `of_answers` are what an own graph for answers would give.
        by_task[name] = to_predictions(each, task_answers, each.of_answers().decide(task_answers), top)
    rows = zip(*by_task.values(), strict=True)
    return [TaskPrediction(dict(zip(by_task, row, strict=True))) for row in rows]


def rank(classes: Sequence[str], probabilities: NDArray[Any], top: int) -> Ranked:
    """Name the most probable classes of one row `(C,)`, best first; equal ones in their order."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((classes[i], float(probabilities[i])) for i in order)


def _single_label(classes: Sequence[str], row: NDArray[Any], top: int) -> Prediction:
    ranked = rank(classes, row, top)
    return Prediction(*ranked[0], ranked)


def _several_labels(classes: Sequence[str], row: NDArray[Any], applies: NDArray[Any], top: int) -> MultiLabelPrediction:
    number = int(applies.sum())
    # Thresholds differ, so that the classes that apply need not be the most probable ones.
    return MultiLabelPrediction(
        rank([c for c, a in zip(classes, applies, strict=True) if a], row[applies], number), rank(classes, row, top)
    )


def _plain(ranked: Ranked) -> list[dict[str, Any]]:
    return [{"label": label, "probability": round(probability, 6)} for label, probability in ranked]
