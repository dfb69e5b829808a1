"""Random loss weighting (Lin et al., 2021, https://arxiv.org/abs/2111.10603)."""

import torch
from torch import Tensor

from effxfer.transfer.multi_task.weightings.weighting import Weighting


class Rlw(Weighting):
    """Weights drawn anew in each step: the softmax of normal numbers, with the mean 1.

    The control of all weightings that learn: what random weights reach needs no method.
    """

    def weigh(self, losses: Tensor) -> Tensor:
        """Multiply each loss by its weight of this step."""
        drawn = torch.randn(self.tasks, generator=self.generator()).softmax(0)
        return losses * (self.tasks * drawn).to(losses)
