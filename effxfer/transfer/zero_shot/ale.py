"""ALE: label embedding by ranking (Akata et al., 2013 and 2015, https://arxiv.org/abs/1503.08677).

Shape legend: B examples of a batch, D features, K classes with examples.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from effxfer.transfer.zero_shot.zero_shot import ZeroShot


class Ale(ZeroShot):
    """Train a bilinear form so that an example's own class ranks first; the body stands still.

    Attributes:
        margin: By how much its own class should be ahead of each other one, above 0; rows of classes have length 1.
    """

    margin: float = Field(default=1.0, gt=0)  # the paper's

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
