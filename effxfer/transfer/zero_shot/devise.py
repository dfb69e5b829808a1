"""DeViSE: a deep visual-semantic embedding (Frome et al., 2013).

https://papers.nips.cc/paper/2013/hash/7cce53cf90577442771720a370c3c723-Abstract.html.

Shape legend: B examples of a batch, D features, K classes with examples.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from effxfer.transfer.zero_shot.zero_shot import ZeroShot


class Devise(ZeroShot):
    """Train a map from features to word vectors by the hinge of all other classes; the body stands still.

    Attributes:
        margin: By how much the product with its own class should be above each other one, above 0; rows of classes
            have length 1.
    """

    margin: float = Field(default=0.1, gt=0)  # the paper's

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Return the hinge on stored features."""
        features, labels = batch
        return {"label": hinge_loss(learner.head(features), labels, self.margin)}


def hinge_loss(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Sum the hinge `max(0, margin - own + other)` over all other classes; the mean over examples.

    Args:
        logits: `(B, K)`.
        labels: int64 `(B,)`.
        margin: Above 0.
    """
    hinge = (margin + logits - logits.gather(1, labels[:, None])).clamp_min(0)
    return hinge.scatter(1, labels[:, None], 0.0).sum(1).mean()
