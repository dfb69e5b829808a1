"""Turn the labels of texts into arrays, one for each row, token or answer.

Shape legend: N texts, L tokens of the longest, W columns of the labels of texts.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.tasks import classes_of, split_texts
from effxfer.data.listing import LabelKind
from effxfer.data.texts.examples import Answer, Example
from effxfer.errors import DataError
from effxfer.runtime.multi_task.task_labels import TaskLabels
from effxfer.runtime.multi_task.task_outputs import BETWEEN
from effxfer.runtime.outputs.span import SpanLabels
from effxfer.runtime.outputs.tagging import UNLABELLED, TagLabels
from effxfer.runtime.text.encodings import Encodings

Kinds = Mapping[str, LabelKind]


def label_names(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return the names of all classes, or of all tags, sorted."""
    names = {e.label for e in examples if isinstance(e.label, str)}
    return tuple(
        sorted(
            names | {tag for e in examples for tag in e.label if isinstance(e.label, tuple) and isinstance(tag, str)}
        )
    )


def class_labels(encodings: Encodings, examples: Sequence[Example], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the class of each row, int64 `(N,)`; -1 for a text without a label.

    Args:
        encodings: Rows of the examples.
        examples: The texts.
        classes: Names of the classes.

    Raises:
        DataError: `E334` if a label is none of the classes.
    """
    index = {name: number for number, name in enumerate(classes)} | {"": -1}
    unknown = [example for example in examples if example.label not in index]
    if unknown:
        raise DataError(f"{unknown[0].name}: the label {unknown[0].label!r:.60} is no class", "correct it", code="E334")
    return np.array([index[str(example.label)] for example in examples], np.int64)[encodings.groups]


def tag_labels(encodings: Encodings, examples: Sequence[Example], tags: Sequence[str]) -> TagLabels:
    """Return the tag of each word at its first token.

    Of overlapping windows, one has the tag of a word; those of a text hold its tags in their order.

    Raises:
        DataError: `E334` if a label is none of the tags.
    """
    index = {name: number for number, name in enumerate(tags)}
    numbers = list[list[int]]()
    for example in examples:
        unknown = [tag for tag in example.label if tag not in index]
        if unknown:
            raise DataError(f"{example.name}: the tag {unknown[0]!r:.60} is unknown", "correct it", code="E334")
        numbers.append([index[str(tag)] for tag in example.label])
    return TagLabels(encodings.groups, encodings.word_labels(numbers).pad(UNLABELLED))


def answer_labels(encodings: Encodings, examples: Sequence[Example], stride: int) -> SpanLabels:
    """Return the answers of questions, by tokens of their rows and of their whole contexts.

    Of several answers, the first is trained on, and all are right.

    Args:
        encodings: Rows of the examples, with spans.
        examples: The questions.
        stride: Tokens that two successive windows share.
    """
    context, offset = encodings.last_field(stride)
    spans = [[_characters(a) for a in example.label if isinstance(a, Answer)] for example in examples]
    places = encodings.answer_places([next(iter(each), None) for each in spans])
    answers = encodings.answer_tokens(spans, context, offset)
    return SpanLabels(encodings.groups, context, offset, places, answers[encodings.groups])


def count_lost_tags(labels: TagLabels, examples: Sequence[Example]) -> int:
    """Count the words whose tag no row has, because the text was cut before them."""
    return sum(len(example.label) for example in examples) - int((labels.tags != UNLABELLED).sum())


def count_lost_answers(labels: SpanLabels, examples: Sequence[Example]) -> int:
    """Count the questions with an answer that no row holds, because it was cut or lies across windows."""
    reached = set(labels.groups[labels.places[:, 0] >= 0].tolist())
    return sum(bool(example.label) and group not in reached for group, example in enumerate(examples))


def task_labels(
    encodings: Encodings, examples: Sequence[Example], numbers: NDArray[np.float32], classes: Sequence[str],
    kinds: Kinds,
) -> TaskLabels:  # fmt: skip
    """Return the labels of several tasks of which some tag words, each text one row.

    Args:
        encodings: Rows of the examples, which are words.
        examples: The texts, with labels of `cells.read_tasks`.
        numbers: Labels of the other tasks, `(N, W)`.
        classes: Names of the columns of all tasks, `TASK/CLASS`.
        kinds: Kind of label of each task.
    """
    columns = [name.partition(BETWEEN)[0] for name in classes]
    tags = {
        name: _tag_numbers(encodings, examples, texts, classes_of(name, classes))
        for name, texts in tag_texts(examples, kinds).items()
    }
    places = {name: slice(columns.index(name), columns.index(name) + columns.count(name)) for name in tags}
    return TaskLabels(np.arange(len(examples)), numbers, tags, places)


def tag_texts(examples: Sequence[Example], kinds: Kinds) -> dict[str, list[str]]:
    """Return the tags of each task of words as JSON, by task; empty where a text has none."""
    columns = split_texts([str(example.label) for example in examples], len(kinds))
    return {name: texts for (name, kind), texts in zip(kinds.items(), columns, strict=True) if kind == "tags"}


def _tag_numbers(
    encodings: Encodings, examples: Sequence[Example], texts: Sequence[str], tags: Sequence[str]
) -> NDArray[np.int64]:
    """Return the number of the tag of each word at its first token, `(N, L)`, -100 elsewhere."""
    if not examples:
        return np.empty((0, 0), np.int64)
    index = {name: number for number, name in enumerate(tags)}
    numbers = [
        [index[tag] for tag in json.loads(text)] if text else [UNLABELLED] * len(example.source)
        for example, text in zip(examples, texts, strict=True)
    ]
    padded: NDArray[np.int64] = encodings.word_labels(numbers).pad(UNLABELLED)
    return padded


def count_lost_task_tags(kinds: Kinds, labels: TaskLabels, examples: Sequence[Example]) -> int:
    """Count the words whose tag no row has, because the text was cut before them."""
    written = sum(len(json.loads(text)) for texts in tag_texts(examples, kinds).values() for text in texts if text)
    return written - sum(int((tags != UNLABELLED).sum()) for tags in labels.tags.values())


def _characters(answer: Answer) -> tuple[int, int]:
    return answer.start, answer.start + len(answer.text)
