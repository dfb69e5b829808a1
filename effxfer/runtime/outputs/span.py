"""An answer to a question, as a span of its context: exact match and F1 of tokens (SQuAD: Rajpurkar et al., 2016).

https://arxiv.org/abs/1606.05250, and for questions without an answer https://arxiv.org/abs/1806.03822. The network
gives two logits for each position: the answer begins here, and it ends here. The first position stands for no answer.

Shape legend: N rows (a question with its context, or with a window of it), L positions of the longest row, Q questions,
A answers of the question that has most.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Score
from effxfer.runtime.outputs.positions import HIDDEN, PositionLabels, finite_rows

NONE = -1
ENDS = ("start", "end")


@dataclass(frozen=True, eq=False)
class SpanLabels(PositionLabels):
    """Answers to questions.

    Attributes:
        groups: See `PositionLabels`; a text is a question with its context.
        context: First position of the context in each row, and the one behind its last, int64 `(N, 2)`.
        offset: Number, in the whole context, of the row's first token of it, int64 `(N,)`.
        places: First and last position of the answer in each row, int64 `(N, 2)`; -1 where the row lacks a part of it.
        answers: First and last token, in the whole context, of all right answers to each row's question, int64
            `(N, A, 2)`, filled up with -1; a question without an answer has only -1.
    """

    context: NDArray[np.int64]
    offset: NDArray[np.int64]
    places: NDArray[np.int64]
    answers: NDArray[np.int64]

    def __getitem__(self, rows: Any, /) -> "SpanLabels":
        fields = (self.groups, self.context, self.offset, self.places, self.answers)
        return SpanLabels(*(field[rows] for field in fields))

    def restrict(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return outputs `(N, L, 2)` in which only the context and the first position can be chosen."""
        places = np.arange(raw.shape[1])
        usable = (places >= self.context[:, :1]) & (places < self.context[:, 1:])
        usable[:, 0] = True
        return np.where(usable[:, :, None], raw, np.float32(HIDDEN))


class Best(NamedTuple):
    """The best span of each row: sums of its logits and of no answer's, `(N,)`; first and last position `(N, 2)`."""

    score: NDArray[np.float32]
    null: NDArray[np.float32]
    places: NDArray[np.int64]


class _Judgement(NamedTuple):
    """Of each question: F1 and exact match of its best span in [0, 1], whether it has no answer, and the margin.

    The margin is the score of the best span less that of no answer.
    """

    f1: NDArray[np.float64]
    exact: NDArray[np.bool_]
    unanswerable: NDArray[np.bool_]
    margin: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Span:
    """The first and the last position of an answer; its labels are `SpanLabels`.

    Attributes:
        classes: Names of the head's two columns.
        threshold: Margin, of a span's logits over those of no answer, from which a question is answered; empty where
            every question has an answer.
    """

    kind: ClassVar[str] = "span"
    metric: ClassVar[str] = "F1"
    title: ClassVar[str] = "F1"
    per: ClassVar[Literal["example", "position"]] = "position"

    classes: tuple[str, ...] = ENDS
    threshold: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """2: a column for the beginning, and one for the end."""
        return len(self.classes)

    def score(self, raw: NDArray[np.float32], labels: Any, of: str = "texts") -> Score:
        """Return the mean over questions of F1 of the tokens that the answer shares with a right one.

        No answer has 100 where there is none, else 0. So has a question with NaN or infinity among its outputs: 0.
        """
        return self.scores(raw, labels, of)[0]

    def scores(self, raw: NDArray[np.float32], labels: Any, of: str = "texts") -> tuple[Score, ...]:
        """Return F1, exact match, and where some questions have no answer, F1 of those that have one and of these."""
        judged = _judge(raw, labels)
        answered = self.answers(judged.margin)
        f1 = np.where(answered, judged.f1, judged.unanswerable)
        f1[np.isnan(judged.margin)] = 0.0
        exact = np.where(answered, judged.exact, judged.unanswerable) & ~np.isnan(judged.margin)
        parts = {"answerable": ~judged.unanswerable, "unanswerable": judged.unanswerable}
        reported = parts if judged.unanswerable.any() and not judged.unanswerable.all() else {}
        return (
            _mean("F1", f1, "questions"),
            _mean("exact match", exact, "questions"),
            *(_mean(f"F1 {name}", f1[chosen], f"{name} questions") for name, chosen in reported.items()),
        )

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Any) -> float:
        """Estimate the deviation of the difference of two scores: of a mean of differences over questions."""
        differences = self._f1(before, labels) - self._f1(after, labels)
        return 100 * float(differences.std()) / float(np.sqrt(len(differences)))

    def decide(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the first and the last position of each row's answer, int64 `(N, 2)`; -1 for none."""
        best = best_spans(raw)
        return np.where(self.answers(best.score - best.null)[:, None], best.places, NONE)

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits: a probability depends on which positions can be chosen."""
        return raw

    def from_answers(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits."""
        return answers

    def of_answers(self) -> "Span":
        """Return itself."""
        return self

    def fit_decision(self, raw: NDArray[np.float32], labels: Any) -> "Span":
        """Return the same output with the threshold that has the best F1 on validation questions.

        Where every validation question has an answer, the threshold stays.
        """
        judged = _judge(raw, labels)
        if not judged.unanswerable.any() or not self.threshold:
            return self
        return replace(self, threshold=(round(_best_threshold(judged), 6),))

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        return {"kind": self.kind, "classes": list(self.classes), "threshold": list(self.threshold)}

    def answers(self, margin: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which questions are answered, from the margins of their best spans over no answer, `(Q,)`."""
        # NaN is compared as false: no answer.
        answered: NDArray[np.bool_] = margin >= (self.threshold[0] if self.threshold else HIDDEN)
        return answered

    def _f1(self, raw: NDArray[np.float32], labels: SpanLabels) -> NDArray[np.float64]:
        judged = _judge(raw, labels)
        f1: NDArray[np.float64] = np.where(self.answers(judged.margin), judged.f1, judged.unanswerable)
        return np.where(np.isnan(judged.margin), 0.0, f1)


def best_spans(raw: NDArray[np.float32]) -> Best:
    """Return the best span of each row: the pair of positions, the first not behind the last, with the largest sum.

    Args:
        raw: Logits `(N, L, 2)`, L at least 1; those of positions that cannot be chosen are `HIDDEN`.
    """
    rows = np.arange(len(raw))
    start, end, null = raw[:, 1:, 0], raw[:, 1:, 1], raw[:, 0].sum(1)
    if not start.shape[1]:
        nowhere = np.full(len(raw), 2 * HIDDEN, np.float32)
        return Best(nowhere, null, np.full((len(raw), 2), NONE))
    # The largest beginning up to each position: one pass instead of all pairs.
    highest = np.maximum.accumulate(start, axis=1)
    last = (highest + end).argmax(1)
    until = np.where(np.arange(start.shape[1]) <= last[:, None], start, -np.inf)
    first = until.argmax(1)
    return Best(start[rows, first] + end[rows, last], null, np.stack([first, last], 1) + 1)


def best_rows(raw: NDArray[np.float32], labels: SpanLabels) -> tuple[Best, NDArray[np.int64], NDArray[np.int64]]:
    """Return the best span of each question over its rows.

    Returns:
        The spans, whose no-answer score is the lowest of a question's rows; the row of each, `(Q,)`; and its question,
        ascending, `(Q,)`.
    """
    best = best_spans(labels.restrict(raw))
    score = np.where(finite_rows(raw), best.score, np.nan)
    questions, numbers = np.unique(labels.groups, return_inverse=True)
    # By question, and in it by score, NaN last: so the last row of each is its best, or broken.
    order = np.lexsort((score, numbers))
    chosen = order[np.append(numbers[order][1:] != numbers[order][:-1], True)[: len(order)]]
    null = np.full(len(questions), np.inf, np.float32)
    np.minimum.at(null, numbers, best.null)
    return Best(score[chosen].astype(np.float32), null, best.places[chosen]), chosen, questions


def _judge(raw: NDArray[np.float32], labels: SpanLabels) -> _Judgement:
    best, rows, _ = best_rows(raw, labels)
    chosen = labels[rows]
    tokens = best.places - chosen.context[:, :1] + chosen.offset[:, None]
    f1, exact = _overlap(tokens, chosen.answers)
    unanswerable: NDArray[np.bool_] = np.all(chosen.answers < 0, axis=(1, 2))
    return _Judgement(f1, exact, unanswerable, (best.score - best.null).astype(np.float64))


def _overlap(tokens: NDArray[np.int64], answers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the largest F1 of spans `(Q, 2)` with an answer `(Q, A, 2)`, and whether they are equal to one."""
    valid = answers[:, :, 0] >= 0
    first = np.maximum(tokens[:, None, 0], answers[:, :, 0])
    last = np.minimum(tokens[:, None, 1], answers[:, :, 1])
    shared = np.maximum(last - first + 1, 0)
    lengths = (tokens[:, 1] - tokens[:, 0] + 1)[:, None] + answers[:, :, 1] - answers[:, :, 0] + 1
    f1 = np.where(valid, 2 * shared / lengths, 0.0).max(1, initial=0.0)
    exact = ((tokens[:, None] == answers).all(2) & valid).any(1)
    return f1, exact


def _best_threshold(judged: _Judgement) -> float:
    """Return the margin from which questions are answered such that F1 is largest; the middle between two margins."""
    order = np.argsort(-np.nan_to_num(judged.margin, nan=HIDDEN))
    margins = np.nan_to_num(judged.margin, nan=HIDDEN)[order]
    gains = np.concatenate([[0.0], np.cumsum(judged.f1[order] - judged.unanswerable[order])])
    # Only between different margins can a threshold stand.
    possible = np.concatenate([[True], margins[1:] < margins[:-1], [True]])
    count = int(np.where(possible, gains, -np.inf).argmax())
    above = margins[count - 1] if count else margins[0] + 1
    below = margins[count] if count < len(margins) else margins[-1] - 1
    return float((above + below) / 2)


def _mean(metric: str, values: NDArray[Any], of: str) -> Score:
    return Score(metric=metric, value=100 * float(values.mean()), n=len(values), of=of)
