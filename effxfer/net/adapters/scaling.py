"""Learned factors and shifts of single channels, as parametrizations of weights and biases."""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """Multiplies each slice of a tensor along one axis by a learned factor, initially 1.

    Args:
        tensor: Tensor whose shape, type and device the factors take.
        axis: Axis of the slices.
        start: First slice to scale; earlier slices are unchanged.
    """

    def __init__(self, tensor: Tensor, axis: int = 0, start: int = 0) -> None:
        super().__init__()
        self.axis, self.start = axis, start
        count = tensor.shape[axis] - start
        self.factor = nn.Parameter(torch.ones(count, dtype=tensor.dtype, device=tensor.device))

    def forward(self, tensor: Tensor) -> Tensor:
        """Return the scaled tensor, of the same shape."""
        shape = [1] * tensor.dim()
        shape[self.axis] = -1
        factor = torch.cat([self.factor.new_ones(self.start), self.factor]) if self.start else self.factor
        return tensor * factor.view(shape)


class Shift(nn.Module):
    """Adds a learned number, initially 0, to each element of a vector."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.zeros_like(tensor))

    def forward(self, tensor: Tensor) -> Tensor:
        """Return the shifted vector."""
        return tensor + self.added
