"""Answer with the words and the spans of texts: entities with their places, answers to questions, classes beside tags.

Shape legend: N rows (texts, or windows of long ones), L positions of the longest row, C columns of the head, M words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.entities import OUTSIDE
from effxfer.runtime.outputs.positions import PositionLabels
from effxfer.runtime.outputs.predictions import (
    Entity,
    SpanPrediction,
    TaggedWord,
    TaggingPrediction,
    TaskPrediction,
    to_predictions,
)
from effxfer.runtime.outputs.span import Span, SpanLabels, best_rows
from effxfer.runtime.outputs.tagging import Tagging
from effxfer.runtime.outputs.words import find_words, trim
from effxfer.runtime.rows import concat_rows, map_batches
from effxfer.runtime.softmax import softmax
from effxfer.runtime.source import Source, to_text
from effxfer.runtime.text.encodings import Encodings
from effxfer.runtime.text.tokens import Tokens, read_text

if TYPE_CHECKING:
    from effxfer.runtime.model import Model


@dataclass(frozen=True)
class Reading:
    """One text as a network of positions reads it.

    Attributes:
        encodings: Its rows: one, or several windows.
        text: The text that offsets are of: of a question the context; empty for words that a caller gave.
        words: Its words; of a question none.
        offsets: First character of each word, and the one behind its last; of a caller's words their numbers.
    """

    encodings: Encodings
    text: str = ""
    words: tuple[str, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()


def decode(model: "Model", source: Source) -> Any:
    """Return the `feed` of an example; of a text with tags or an answer its `Reading`."""
    if model.output.per == "position":
        return read_positions(model.tokens, model.output, source)
    return model.feed(source)


def predict_decoded(
    model: "Model", examples: Sequence[Any], names: Sequence[str], top: int, batch: int
) -> list[Any]:  # fmt: skip
    """Predict results of `decode`; see `Model.outputs_of` for the other arguments and errors."""
    if model.output.per == "position":
        return answer_readings(model, examples, names, batch, top)
    return model.predict_feeds(examples, names, top, batch)


def read_positions(tokens: Tokens, output: Output, source: Source) -> Reading:
    """Read a text, words, or a question with its context.

    Args:
        tokens: The network's input.
        output: The network's output, per position.
        source: For tags a text, a file or bytes of one, or a list of words; for answers a pair of texts.

    Raises:
        TextError: If it is no such text.
    """
    content = to_text(source)
    if isinstance(output, Span):
        encodings = tokens.encode([content], spans=True)
        return Reading(encodings, content[1] if isinstance(content, tuple) else "")
    if isinstance(content, list):
        numbers = tuple((place, place + 1) for place in range(len(content)))
        return Reading(tokens.encode([content]), "", tuple(content), numbers)
    text = read_text(content)
    offsets = find_words(text)
    words = [text[start:end] for start, end in offsets]
    return Reading(tokens.encode([words]), text, tuple(words), tuple(offsets))


def answer_readings(
    model: "Model", readings: Sequence[Reading], names: Sequence[str], batch: int, top: int = 1
) -> list[Any]:
    """Run a model on readings, and turn its outputs into predictions.

    Args:
        model: A model of tags or answers, or of several tasks with tags among them.
        readings: Results of `read_positions`; at least one.
        names: Names of the texts, for errors.
        batch: Rows per call.
        top: Classes per text.

    Returns:
        A `TaggingPrediction`, a `SpanPrediction` or a `TaskPrediction` for each.

    Raises:
        ModelError: If the file does not run (`E427`), or returns NaN or infinity (`E429`).
    """
    rows = concat_rows([reading.encodings.rows for reading in readings])
    counts = [len(reading.encodings.rows) for reading in readings]
    row_names = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    outputs = model.check_outputs(map_batches(rows, batch, model.run, len(model.labels)), row_names)
    parts = np.split(outputs, np.cumsum(counts)[:-1])
    return [_predict(model, reading, raw, top) for reading, raw in zip(readings, parts, strict=True)]


def _predict(model: "Model", reading: Reading, raw: NDArray[np.float32], top: int) -> Any:
    output: Any = model.output
    if isinstance(output, TaskOutputs):
        return TaskPrediction({name: _predict_task(output, name, reading, raw, top) for name in output.names})
    return (
        _answer(output, reading, raw, model.tokens.stride) if isinstance(output, Span) else _tag(output, reading, raw)
    )


def _predict_task(output: TaskOutputs, name: str, reading: Reading, raw: NDArray[np.float32], top: int) -> Any:
    task, task_raw = output.outputs[name], output.outputs_of(name, raw)
    if isinstance(task, Tagging):
        return _tag(task, reading, task_raw)
    # A class is that of the whole text, which is one row.
    return to_predictions(task, task.to_answers(task_raw[:1]), task.decide(task_raw[:1]), top)[0]


def _tag(output: Tagging, reading: Reading, raw: NDArray[np.float32]) -> TaggingPrediction:
    tags, chances = _word_tags(output, reading, raw)
    scheme, names = output.scheme, [*output.classes, OUTSIDE]
    words = tuple(
        TaggedWord(word, names[tag], start, end, chance)
        for word, tag, (start, end), chance in zip(
            reading.words, tags.tolist(), reading.offsets, chances.tolist(), strict=True
        )
    )
    if scheme is None:
        return TaggingPrediction((), words, has_entities=False, has_places=bool(reading.text))
    entities = scheme.find(tags, np.zeros(len(tags), np.int64))
    spans = zip(*(field.tolist() for field in entities), strict=True)
    return TaggingPrediction(
        tuple(_entity(reading, first, last, scheme.types[kind], chances) for first, last, kind in spans),
        words, has_entities=True, has_places=bool(reading.text),
    )  # fmt: skip


def _word_tags(
    output: Tagging, reading: Reading, raw: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the tag of each word and its probability, `(M,)`; -1 and 0 for a word that was cut off."""
    tags, chances = np.full(len(reading.words), -1, np.int64), np.zeros(len(reading.words), np.float32)
    numbers, rows = reading.encodings.words, reading.encodings.rows
    assert numbers is not None
    for row, (start, end) in enumerate(zip(rows.starts, rows.ends, strict=True)):
        places = np.flatnonzero(numbers[start:end] >= 0)
        words, probabilities = numbers[start:end][places], softmax(raw[row, places])
        tags[words], chances[words] = output.decide(raw[row : row + 1])[0, places], probabilities.max(1, initial=0)
    return tags, chances


def _entity(reading: Reading, first: int, last: int, kind: str, chances: NDArray[np.float32]) -> Entity:
    start, end = reading.offsets[first][0], reading.offsets[last][1]
    text = reading.text[start:end] if reading.text else " ".join(reading.words[first : last + 1])
    return Entity(text, kind, start, end, float(chances[first : last + 1].min()))


def _answer(output: Span, reading: Reading, raw: NDArray[np.float32], stride: int) -> SpanPrediction:
    encodings = reading.encodings
    assert encodings.spans is not None
    context, offset = encodings.last_field(stride)
    count = len(encodings.rows)
    unknown = np.full((count, 2), -1), np.empty((count, 0, 2), np.int64)
    labels: PositionLabels = SpanLabels(np.zeros(count, np.int64), context, offset, *unknown)
    best, rows, _ = best_rows(raw, labels)  # type: ignore[arg-type]
    row, (first, last) = int(rows[0]), best.places[0].tolist()
    chances = softmax(labels.restrict(raw)[row].T)
    if not output.answers(best.score - best.null)[0]:
        return SpanPrediction(None, None, None, float(chances[0, 0] * chances[1, 0]))
    spans = encodings.spans[encodings.rows.starts[row] :]
    start, end = trim(reading.text, int(spans[first, 0]), int(spans[last, 1]))
    return SpanPrediction(reading.text[start:end], start, end, float(chances[0, first] * chances[1, last]))
