"""A learned variance for each task (Kendall et al., 2018, https://arxiv.org/abs/1705.07115)."""

import torch
from torch import Tensor, nn

from effxfer.transfer.multi_task.weightings.weighting import Weighting


class Uncertainty(Weighting):
    """Weigh each loss by `exp(-s)`, and add `s`, the logarithm of its variance, which is trained with the network.

    The paper has `1 / (2 v)` for values and `1 / v` for classes; both losses here have `1 / v`, so that `s = 0`, the
    start, is the null value for each kind of label.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.log_variance = nn.Parameter(torch.zeros(tasks))

    def weigh(self, losses: Tensor) -> Tensor:
        """Return `exp(-s) L + s / 2` for each task."""
        return losses * (-self.log_variance).exp() + self.log_variance / 2

    def weights(self) -> Tensor:
        """Return `exp(-s)`."""
        return (-self.log_variance.detach()).exp()
