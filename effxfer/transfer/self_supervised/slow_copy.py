"""A copy of a network that follows it slowly, and predicts or is predicted without gradients.

Mean teachers (Tarvainen & Valpola, 2017, https://arxiv.org/abs/1703.01780), as MoCo and BYOL use them.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from effxfer.net.net import Net
from effxfer.transfer.self_supervised.projection import Projected


class SlowCopy(nn.Module):
    """A network and its projection as they were, moved towards those in training after each step.

    Args:
        learner: What is copied; the copy is stored in the checkpoint and not in the result.
    """

    def __init__(self, learner: Projected) -> None:
        super().__init__()
        self.net: Net = deepcopy(learner.net)
        self.projector = deepcopy(learner.projector)
        self.requires_grad_(False)

    @torch.no_grad()
    def project(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to projections `(B, P)` in float32, without gradients."""
        projected: Tensor = self.projector(self.net.features(images))
        return projected.float()

    @torch.no_grad()
    def follow_(self, learner: Projected, momentum: float) -> None:
        """Move the weights, in place, to `momentum` of themselves and the rest of those of `learner`.

        Statistics of BatchNorm are the copy's own, from the batches that it sees.
        """
        pairs = ((self.net, learner.net), (self.projector, learner.projector))
        for slow, fast in pairs:
            for weight, target in zip(slow.parameters(), fast.parameters(), strict=True):
                weight.lerp_(target, 1 - momentum)
