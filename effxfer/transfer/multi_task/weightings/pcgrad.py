"""Projecting conflicting gradients, PCGrad (Yu et al., 2020, https://arxiv.org/abs/2001.06782).

Shape legend: T tasks, P parameters that they share.
"""

from typing import ClassVar

import torch
from torch import Tensor

from effxfer.transfer.multi_task.weightings.weighting import Weighting


def pcgrad(gradients: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Remove from each task's gradient what conflicts with the others', in random order, and add them up, `(P,)`.

    Args:
        gradients: One row per task, `(T, P)`. Without conflicts the result is their sum.
        generator: Draws the order of the others, whose gradients are taken as they were.
    """
    projected = []
    for number, gradient in enumerate(gradients):
        remaining = gradient
        for rival in torch.randperm(len(gradients), generator=generator).tolist():
            product = remaining @ gradients[rival]
            if rival != number and product < 0:
                remaining = remaining - product / gradients[rival].square().sum().clamp_min(1e-30) * gradients[rival]
        projected.append(remaining)
    return torch.stack(projected).sum(0)


class PcGrad(Weighting):
    """Equal weights, and gradients without their conflicts."""

    combines: ClassVar[bool] = True

    def combine(self, gradients: Tensor) -> Tensor:
        """Return `pcgrad` of the gradients."""
        return pcgrad(gradients, self.generator())
