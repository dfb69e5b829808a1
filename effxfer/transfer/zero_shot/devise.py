"""DeViSE: a deep visual-semantic embedding (Frome et al., 2013).

https://papers.nips.cc/paper/2013/hash/7cce53cf90577442771720a370c3c723-Abstract.html.

Shape legend: B examples of a batch, D features, K classes with examples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.zero_shot.known_classes import BODY_STANDS_STILL, draw_features, freeze_, refuse_idle


class Devise(Strategy):
    """Train a map from features to word vectors by the hinge of all other classes; the body stands still.

    Attributes:
        margin: By how much the product with its own class should be above each other one, above 0; rows of classes
            have length 1.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    needs_class_embeddings: ClassVar[bool] = True

    margin: float = Field(default=0.1, gt=0)  # the paper's

    @model_validator(mode="after")
    def _stands_still(self) -> "Devise":
        refuse_idle(self, BODY_STANDS_STILL, "devise learns a map of frozen features")
        return self

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` of a head that multiplies features with class embeddings."""
        return {"kind": "compare", "form": "product"}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body."""
        freeze_(net, tasks[-1], "product")
        return net

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of `(features, labels)`."""
        return draw_features(learner, tasks[-1], self.batch, self.balance)

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
