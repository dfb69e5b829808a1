"""Standardise features by stored statistics."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# As in `F.normalize`: far below the length of any feature, and its square is no denormal of float32.
TINY = 1e-12


class Standardize(nn.BatchNorm1d):
    """`(x - mean) / deviation` with stored statistics, in training as in evaluation.

    It subclasses BatchNorm, so that channel pruning and exporters recognize it.
    """

    def __init__(self, features: int) -> None:
        # Not BatchNorm's 1e-5: the variance is stored to be divided by, and `safe_deviation` has kept it from 0.
        super().__init__(features, eps=TINY, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, D)` to `(B, D)`."""
        return F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)

    @torch.no_grad()
    def fit_(self, mean: Tensor, deviation: Tensor) -> None:
        """Store the statistics `(D,)`, in place; a deviation of almost 0 counts as 1."""
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.copy_(mean)
        self.running_var.copy_(safe_deviation(deviation) ** 2)


def safe_deviation(deviation: Tensor) -> Tensor:
    """Replace deviations `(D,)` below a thousandth of their mean, which are noise, with 1."""
    return torch.where(deviation > 1e-3 * deviation.mean(), deviation, torch.ones_like(deviation))
