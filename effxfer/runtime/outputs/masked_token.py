"""The token at each masked place of a text: accuracy and perplexity at these places.

Shape legend: M masked places, V tokens of the vocabulary.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.base import Labels, Score
from effxfer.runtime.outputs.largest_logit import LargestLogit

MASKED = "masked tokens"


@dataclass(frozen=True, kw_only=True)
class MaskedToken(LargestLogit):
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

    def losses(self, raw: NDArray[np.float32], labels: Labels) -> NDArray[np.float64]:
        """Return the cross-entropy of each place, float64 `(M,)`."""
        # Less the maximum: float32's exponential overflows above 88.
        largest = raw.max(1, keepdims=True)
        total = np.log(np.exp(raw - largest).sum(1, dtype=np.float64)) + largest[:, 0]
        result: NDArray[np.float64] = total - raw[np.arange(len(labels)), labels]
        return result

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values."""
        return {"kind": self.kind, "vocabulary": self.vocabulary}
