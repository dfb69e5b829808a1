"""ALE: label embedding by ranking (Akata et al., 2013 and 2015, https://arxiv.org/abs/1503.08677).

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


class Ale(Strategy):
    """Train a bilinear form so that an example's own class ranks first; the body stands still.

    Attributes:
        margin: By how much its own class should be ahead of each other one, above 0; rows of classes have length 1.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    needs_class_embeddings: ClassVar[bool] = True

    margin: float = Field(default=1.0, gt=0)  # the paper's

    @model_validator(mode="after")
    def _stands_still(self) -> "Ale":
        refuse_idle(self, BODY_STANDS_STILL, "ale learns a map of frozen features")
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
        """Return the ranking loss on stored features."""
        features, labels = batch
        return {"label": ranking_loss(learner.head(features), labels, self.margin)}


def ranking_loss(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Compute the weighted approximate ranking loss.

    The hinge of each class that is not `margin` below the own one, weighted by `(1 + 1/2 + ... + 1/r) / r`, where r is
    the number of such classes: mistakes at the top of the ranking cost most.

    Args:
        logits: `(B, K)`.
        labels: int64 `(B,)`.
        margin: Above 0.
    """
    hinge = (margin + logits - logits.gather(1, labels[:, None])).clamp_min(0)
    hinge = hinge.scatter(1, labels[:, None], 0.0)
    rank = (hinge > 0).sum(1)
    harmonic = torch.cat([torch.zeros(1), torch.arange(1, logits.shape[1] + 1).reciprocal().cumsum(0)]).to(logits)
    return (hinge.sum(1) * harmonic[rank] / rank.clamp_min(1)).mean()
