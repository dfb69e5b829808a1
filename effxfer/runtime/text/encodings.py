"""Rows of token ids with the place of each token, and labels for words and answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.sequences import NOWHERE, Part
from effxfer.runtime.text.windows import Window

IGNORED = -100


@dataclass(frozen=True, eq=False)
class Encodings:
    """Texts as rows of token ids.

    Attributes:
        rows: int32 ids with special tokens, one row for each text or window.
        groups: int64 `(N,)`, the number of each row's text, ascending.
        cut: Number of texts that lost tokens.
        spans: Characters that each token stands for in its field, first and last + 1, int32 `(total, 2)`; -1 where a
            token is of another field than the last one. None if they were not asked for.
        words: Number of the word that each token begins, int32 `(total,)`, and -1 elsewhere; of a group's windows, only
            the one with most context has a word. None if the sources are texts.
    """

    rows: Ragged
    groups: NDArray[np.int64]
    cut: int
    spans: NDArray[np.int32] | None = None
    words: NDArray[np.int32] | None = None

    def word_labels(self, labels: Sequence[Sequence[int]]) -> Ragged:
        """Return the label of each word at its first token, and -100 elsewhere: int64, with the ends of `rows`.

        Args:
            labels: For each text, one label for each word.

        Raises:
            ValueError: If a text has fewer labels than words.
        """
        if not len(self.rows):  # of no texts, nothing says whether they are words
            return Ragged(np.zeros(0, np.int64), self.rows.ends)
        if self.words is None:
            raise ValueError("labels of words need lists of words")
        starts = np.cumsum([0, *map(len, labels)])
        flat = np.array([label for row in labels for label in row], np.int64)
        groups = np.repeat(self.groups, self.rows.lengths)
        begins = self.words >= 0
        places = starts[groups[begins]] + self.words[begins]
        if (places >= starts[groups[begins] + 1]).any():
            raise ValueError("a text has fewer labels than words")
        values = np.full(len(self.words), IGNORED, np.int64)
        values[begins] = flat[places]
        return Ragged(values, self.rows.ends)

    def answer_places(self, answers: Sequence[tuple[int, int] | None]) -> NDArray[np.int64]:
        """Return the first and the last token of each row's answer, int64 `(N, 2)`.

        Args:
            answers: For each text, the answer's characters in the last field, first and last + 1; None for no answer.

        Returns:
            -1 where a text has no answer, or the row does not hold all of it.
        """
        if self.spans is None:
            raise ValueError("places of answers need spans")
        places = np.full((len(self.rows), 2), -1, np.int64)
        starts = self.rows.starts
        for row, group in enumerate(self.groups.tolist()):
            answer = answers[group]
            if answer is not None:
                places[row] = _covering_tokens(self.spans[starts[row] : self.rows.ends[row]], *answer)
        return places

    def last_field(self, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where each row holds tokens of the last field.

        Args:
            stride: Tokens of that field that two successive windows of a text share.

        Returns:
            The first of these positions and the one behind the last, int64 `(N, 2)`; and the number of the first one's
            token in the whole field, int64 `(N,)`.
        """
        if self.spans is None:
            raise ValueError("places of a field need spans")
        places, offsets = np.zeros((len(self.rows), 2), np.int64), np.zeros(len(self.rows), np.int64)
        starts = self.rows.starts
        for row in range(len(self.rows)):
            inside = np.flatnonzero(self.spans[starts[row] : self.rows.ends[row], 0] >= 0)
            places[row] = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
            if row and self.groups[row] == self.groups[row - 1]:
                offsets[row] = offsets[row - 1] + places[row - 1, 1] - places[row - 1, 0] - stride
        return places, offsets

    def answer_tokens(
        self, answers: Sequence[Sequence[tuple[int, int]]], places: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the first and the last token of each answer in the whole last field, over all windows.

        Args:
            answers: For each text, characters of its answers in the last field, first and last + 1.
            places: Of `last_field`.
            offsets: Of `last_field`.

        Returns:
            int64 `(texts, A, 2)`, A of the text that has most; -1 behind a text's answers. An answer whose end was cut
            ends with the last token that there is; one that was cut away whole lies behind it.
        """
        if self.spans is None:
            raise ValueError("places of answers need spans")
        tokens = np.full((len(answers), max(map(len, answers), default=0), 2), -1, np.int64)
        starts, bounds = self.rows.starts, np.searchsorted(self.groups, np.arange(len(answers) + 1))
        for group, characters in enumerate(answers):
            rows = range(int(bounds[group]), int(bounds[group + 1]))
            parts = [
                self.spans[starts[r] + places[r, 0] + max(0, total - offsets[r]) : starts[r] + places[r, 1]]
                for r, total in zip(rows, _totals(rows, places, offsets), strict=True)
            ]
            field = np.concatenate(parts)
            for number, (start, end) in enumerate(characters):
                first, last = _covering_tokens(field, start, end)
                tokens[group, number] = (first, last) if first >= 0 else _touching_tokens(field, start, end)
        return tokens


def _totals(rows: range, places: NDArray[np.int64], offsets: NDArray[np.int64]) -> list[int]:
    """Return how many tokens of the field the windows before each row hold."""
    ends = [int(offsets[row] + places[row, 1] - places[row, 0]) for row in rows]
    return [0, *ends[:-1]]


def _touching_tokens(spans: NDArray[np.int32], start: int, end: int) -> tuple[int, int]:
    """Return the first and the last of the tokens that hold a character from `start` to `end`; one behind all else."""
    touching = np.flatnonzero((spans[:, 0] < end) & (spans[:, 1] > start))
    return (int(touching[0]), int(touching[-1])) if len(touching) else (len(spans), len(spans))


def _covering_tokens(spans: NDArray[np.int32], start: int, end: int) -> tuple[int, int]:
    """Return the first and the last of the tokens that hold the characters from `start` to `end`; -1 without one."""
    first = np.flatnonzero((spans[:, 0] <= start) & (start < spans[:, 1]))
    last = np.flatnonzero((spans[:, 0] < end) & (end <= spans[:, 1]))
    return (int(first[0]), int(last[-1])) if len(first) and len(last) and start < end else NOWHERE


class Collector:
    """Collects rows, and what belongs to each token.

    Args:
        spans: Collect the place of each token.
        words: Collect the word that each token begins.
    """

    def __init__(self, *, spans: bool, words: bool) -> None:
        self._rows, self._groups, self._cut = list[NDArray[np.int32]](), list[int](), 0
        self._spans: list[NDArray[np.int32]] | None = [] if spans else None
        self._words: list[NDArray[np.int32]] | None = [] if words else None

    def add(self, group: int, parts: Sequence[Part], fields: Sequence[str], cuts: Sequence[Window]) -> None:
        """Add the rows of one text.

        Args:
            group: The text's number.
            parts: Its tokens.
            fields: Names of the fields, in order.
            cuts: The tokens of each field that each row holds.
        """
        covered = len(cuts) > 1
        for window in cuts:
            spans = dict(zip(fields, window.spans, strict=True))
            pieces = [_cut_part(part, spans) for part in parts]
            self._rows.append(_array([token for part in pieces for token in part.ids]))
            self._groups.append(group)
            self._add_places(pieces, fields[-1])
        lengths = {part.field: len(part.ids) for part in parts}
        last = [window.spans[-1][1] for window in cuts][-1]
        uncut = [end for _, end in cuts[0].spans[:-1]] == [lengths.get(name, 0) for name in fields[:-1]]
        self._cut += not uncut or (last < lengths.get(fields[-1], 0))
        if covered and self._words is not None:
            _keep_best_context(self._words[-len(cuts) :])

    def result(self) -> Encodings:
        """Return everything that was added."""
        spans = None if self._spans is None else _stack(self._spans, (0, 2))
        words = None if self._words is None else _stack(self._words, (0,))
        return Encodings(Ragged.of(self._rows), np.array(self._groups, np.int64), self._cut, spans, words)

    def _add_places(self, pieces: Sequence[Part], last_field: str) -> None:
        if self._spans is not None:
            places = [p.spans if p.field == last_field else [NOWHERE] * len(p.ids) for p in pieces]
            self._spans.append(_array([place for spans in places for place in spans]).reshape(-1, 2))
        if self._words is not None:
            numbers = [p.words if p.field else [-1] * len(p.ids) for p in pieces]
            self._words.append(_array([number for words in numbers for number in words]))


def _cut_part(part: Part, spans: "dict[str, tuple[int, int]]") -> Part:
    if part.field not in spans:
        return part
    start, end = spans[part.field]
    return Part(part.field, part.ids[start:end], part.spans[start:end], part.words[start:end])


def _keep_best_context(windows: Sequence[NDArray[np.int32]]) -> None:
    """Keep each word only in the window where it is farthest from an edge, the first of equal ones (in place)."""
    best: dict[int, tuple[int, int]] = {}
    for number, words in enumerate(windows):
        for place in np.flatnonzero(words >= 0).tolist():
            context = min(place, len(words) - 1 - place)
            word = int(words[place])
            if word not in best or context > best[word][0]:
                best[word] = (context, number)
    for number, words in enumerate(windows):
        for place in np.flatnonzero(words >= 0).tolist():
            if best[int(words[place])][1] != number:
                words[place] = -1


def _array(values: Iterable[object]) -> NDArray[np.int32]:
    return np.array(list(values), np.int32)


def _stack(arrays: Sequence[NDArray[np.int32]], empty: tuple[int, ...]) -> NDArray[np.int32]:
    return np.concatenate(arrays) if arrays else np.zeros(empty, np.int32)
