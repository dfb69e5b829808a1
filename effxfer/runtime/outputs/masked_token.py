"""The token at each masked place of a text: accuracy and perplexity at these places.

Shape legend: M masked places, V tokens of the vocabulary.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Labels, Score
from effxfer.runtime.softmax import softmax

MASKED = "masked tokens"


@dataclass(frozen=True, kw_only=True)
class MaskedToken:
    """Guess hidden tokens; labels are made while training: int64 `(M,)`, ids of the vocabulary.

    The outputs of N masked places stand for those of N examples. A file of such a network is a start for training, and
    answers no question of a user.

    Attributes:
        vocabulary: Number of token ids, the columns of the head.
        classes: Empty: columns are tokens, whose names are in the tokenizer.
    """

    kind: ClassVar[str] = "masked"
    metric: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "accuracy of masked tokens"
    per: ClassVar[Literal["example", "position"]] = "position"

    vocabulary: int
    classes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of token ids."""
        return self.vocabulary

    def score(self, raw: NDArray[np.float32], labels: Labels, of: str = MASKED) -> Score:
        """Return the share of masked places whose token has the largest logit; see `Output.score`."""
        return Score(metric=self.metric, value=100 * float(self.correct(raw, labels).mean()), n=len(labels), of=of)

    def scores(self, raw: NDArray[np.float32], labels: Labels, of: str = MASKED) -> tuple[Score, ...]:
        """Return the accuracy, and the perplexity: the exponential of the mean loss."""
        return self.summarize(self.correct(raw, labels), self.losses(raw, labels), of)

    def summarize(
        self, correct: NDArray[np.bool_], losses: NDArray[np.float64], of: str = MASKED
    ) -> tuple[Score, Score]:
        """Return `scores` from `correct` and `losses` of all places, whose outputs together may not fit into memory."""
        accuracy = Score(metric=self.metric, value=100 * float(correct.mean()), n=len(correct), of=of)
        perplexity = float(np.exp(losses.mean()))
        return accuracy, Score(metric="perplexity", value=perplexity, n=len(losses), of=of, unit="")

    def correct(self, raw: NDArray[np.float32], labels: Labels) -> NDArray[np.bool_]:
        """Tell whether the largest logit of each place is its token's, `(M,)`; not where any is NaN or infinite."""
        result: NDArray[np.bool_] = (self.decide(raw) == labels) & np.isfinite(raw).all(1)
        return result

    def losses(self, raw: NDArray[np.float32], labels: Labels) -> NDArray[np.float64]:
        """Return the cross-entropy of each place, float64 `(M,)`."""
        # Less the maximum: float32's exponential overflows above 88.
        largest = raw.max(1, keepdims=True)
        total = np.log(np.exp(raw - largest).sum(1, dtype=np.float64)) + largest[:, 0]
        result: NDArray[np.float64] = total - raw[np.arange(len(labels)), labels]
        return result

    def drop_deviation(self, before: NDArray[np.float32], after: NDArray[np.float32], labels: Labels) -> float:
        """Return the root of the number of places that exactly one network has right, in points (McNemar, 1947)."""
        discordant = int((self.correct(before, labels) != self.correct(after, labels)).sum())
        return 100 * float(np.sqrt(discordant)) / len(labels)

    def decide(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the token with the largest logit, int64 `(M,)`."""
        decided: NDArray[np.int64] = raw.argmax(1)
        return decided

    def to_answers(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each token, `(M, V)`."""
        return softmax(raw)

    def from_answers(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities: the largest is that of the largest logit."""
        return answers

    def of_answers(self) -> "MaskedToken":
        """Return itself: the largest logit is the largest probability."""
        return self

    def fit_decision(self, raw: NDArray[np.float32], labels: Labels) -> "MaskedToken":
        """Return itself: there is nothing to choose."""
        return self

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        return {"kind": self.kind, "vocabulary": self.vocabulary}
