"""Factors on, and numbers added to, single channels of weights."""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """Multiplies the slices of a tensor along an axis, each by a factor of its own; all are 1 at first.

    Args:
        tensor: Any.
        axis: Which; a bias or another tensor that lacks it is scaled along its first.
        start: The slices before this one stay.
    """

    def __init__(self, tensor: Tensor, axis: int = 0, start: int = 0) -> None:
        super().__init__()
        self.axis, self.start = axis, start
        count = tensor.shape[axis] - start
        self.factor = nn.Parameter(torch.ones(count, dtype=tensor.dtype, device=tensor.device))

    def forward(self, tensor: Tensor) -> Tensor:
        """Give the scaled tensor, of the same shape."""
        shape = [1] * tensor.dim()
        shape[self.axis] = -1
        factor = torch.cat([self.factor.new_ones(self.start), self.factor]) if self.start else self.factor
        return tensor * factor.view(shape)


class Shift(nn.Module):
    """Adds a number to each element of a vector; all are 0 at first."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.zeros_like(tensor))

    def forward(self, tensor: Tensor) -> Tensor:
        """Give the shifted vector."""
        return tensor + self.added
