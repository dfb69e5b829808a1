"""A tag for each word of a text: F1 of entities, or the accuracy of words.

Shape legend: N rows (a text, or a window of a long one), L positions of the longest row, T tags, M words of all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Score
from effxfer.runtime.outputs.entities import Entities, TagScheme, read_scheme
from effxfer.runtime.outputs.positions import PositionLabels, bootstrap_counts, f1_of, finite_rows
from effxfer.runtime.softmax import softmax

UNLABELLED = -100  # the label of a position that is not the first of a word


@dataclass(frozen=True, eq=False)
class TagLabels(PositionLabels):
    """Tags of words.

    Attributes:
        groups: See `PositionLabels`.
        tags: Index of the tag at the first position of each word, -100 elsewhere, int64 `(N, L)`. Of overlapping
            windows, one has the tag of a word, and those of a text have its tags in their order.
    """

    tags: NDArray[np.int64]

    def __getitem__(self, rows: Any, /) -> "TagLabels":
        return TagLabels(self.groups[rows], self.tags[rows])

    def restrict(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return outputs `(N, L, T)` that are 0 at positions without a tag."""
        return np.where(self.tags[:, : raw.shape[1], None] != UNLABELLED, raw, np.float32(0))


class _Words(NamedTuple):
    """Words of all texts, end to end: number of the text, true and predicted tag, each `(M,)`."""

    texts: NDArray[np.int64]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Tagging:
    """One of several tags for each word; its labels are `TagLabels`.

    Where tags mark entities (`B-PER`, `I-PER`, `O`), an entity is right if its words and its type are. Other tags, such
    as parts of speech, are counted word by word: F1 over all words is then their accuracy.

    Attributes:
        classes: Names of the tags, in the order of the head's columns.
    """

    kind: ClassVar[str] = "tags"
    metric: ClassVar[str] = "F1"
    title: ClassVar[str] = "F1"
    per: ClassVar[Literal["example", "position"]] = "position"

    classes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of tags."""
        return len(self.classes)

    @property
    def scheme(self) -> TagScheme | None:
        """What the tags say about entities; None if they mark none."""
        return read_scheme(self.classes)

    def score(self, raw: NDArray[np.float32], labels: Any, of: str = "texts") -> Score:
        """Return F1 of the entities of all texts, or the accuracy of words; see `Output.score`.

        A text with NaN or infinity among its outputs has no right word.
        """
        return self.scores(raw, labels, of)[0]

    def scores(self, raw: NDArray[np.float32], labels: Any, of: str = "texts") -> tuple[Score, ...]:
        """Return F1, precision and recall of entities, F1 of each type, and the accuracy of words."""
        words = self._words(raw, labels)
        accuracy = Score(metric="word accuracy", value=_accuracy(words), n=len(words.texts), of="words")
        scheme = self.scheme
        if scheme is None:
            return (Score(metric=self.metric, value=accuracy.value, n=accuracy.n, of="words"),)
        counts = _count_by_type(words, scheme)
        right, predicted, true = map(int, counts.sum(0))

        def entities(metric: str, value: float, n: int) -> Score:
            return Score(metric=metric, value=value, n=n, of="entities")

        return (
            entities(self.metric, f1_of(counts.sum(0)), true),
            entities("precision", 100 * right / predicted if predicted else 100.0, predicted),
            entities("recall", 100 * right / true if true else 100.0, true),
            *(entities(f"F1 {name}", f1_of(row), int(row[2])) for name, row in zip(scheme.types, counts, strict=True)),
            accuracy,
        )

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Any) -> float:
        """Estimate the deviation of the difference of two scores by the bootstrap over texts."""
        scheme = self.scheme
        count = _count_words if scheme is None else _entity_counter(scheme)
        return bootstrap_counts(count(self._words(before, labels)), count(self._words(after, labels)))

    def decide(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the tag with the largest logit at each position, int64 `(N, L)`."""
        decided: NDArray[np.int64] = raw.argmax(2)
        return decided

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of the tags at each position, `(N, L, T)`."""
        return softmax(raw)

    def from_answers(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities: the largest is that of the largest logit."""
        return answers

    def of_answers(self) -> "Tagging":
        """Return itself: the largest logit is the largest probability."""
        return self

    def fit_decision(self, raw: NDArray[np.float32], labels: Any) -> "Tagging":
        """Return itself: there is nothing to choose."""
        return self

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        return {"kind": self.kind, "classes": list(self.classes)}

    def _words(self, raw: NDArray[np.float32], labels: TagLabels) -> _Words:
        """Return the words of all texts, each text's in order, whatever the order of the rows."""
        rows = np.argsort(labels.groups, kind="stable")
        tags = labels.tags[rows][:, : raw.shape[1]]
        predicted = np.where(finite_rows(raw)[:, None], self.decide(raw), -1)[rows]
        judged = tags != UNLABELLED
        texts = np.repeat(labels.groups[rows], judged.sum(1))
        return _Words(texts, tags[judged], predicted[judged])


def _accuracy(words: _Words) -> float:
    return 100 * float((words.true == words.predicted).mean()) if len(words.true) else 100.0


def _count_by_type(words: _Words, scheme: TagScheme) -> NDArray[np.float64]:
    """Count the right, the predicted and the true entities of each type, `(types, 3)`."""
    return _count(words, scheme, lambda entities: entities.types, len(scheme.types))


def _entity_counter(scheme: TagScheme) -> Callable[[_Words], NDArray[np.float64]]:
    """Return a function that counts the right, the predicted and the true entities of each text, `(texts, 3)`."""

    def count(words: _Words) -> NDArray[np.float64]:
        texts, numbers = np.unique(words.texts, return_inverse=True)
        return _count(words, scheme, lambda entities: numbers[entities.first], len(texts))

    return count


def _count(
    words: _Words, scheme: TagScheme, bin_of: Callable[[Entities], NDArray[np.int64]], bins: int
) -> NDArray[np.float64]:
    true, predicted = scheme.find(words.true, words.texts), scheme.find(words.predicted, words.texts)
    shared, places, _ = np.intersect1d(true.first, predicted.first, return_indices=True)
    partners = np.searchsorted(predicted.first, shared)
    right = (true.last[places] == predicted.last[partners]) & (true.types[places] == predicted.types[partners])
    counts = (bin_of(true)[places][right], bin_of(predicted), bin_of(true))
    return np.stack([np.bincount(each, minlength=bins) for each in counts], 1).astype(np.float64)


def _count_words(words: _Words) -> NDArray[np.float64]:
    """Count words in place of entities: all are true and predicted."""
    _, numbers = np.unique(words.texts, return_inverse=True)
    right, total = np.bincount(numbers, words.true == words.predicted), np.bincount(numbers)
    return np.stack([right, total, total], 1).astype(np.float64)
