"""Biases of attention by the distance of two tokens, in buckets (T5: Raffel et al., 2019, https://arxiv.org/abs/1910.10683).

Shape legend: H heads, n tokens.
"""

import math

import torch
from torch import Tensor, nn

FARTHEST = 128  # distances beyond share one bucket, as in T5 and MPNet


class RelativePositions(nn.Module):
    """A learned bias for each head and bucket of distances, shared by all blocks.

    Half of the buckets are for tokens ahead. Of each half, one part is exact and the other logarithmic.
    """

    buckets: Tensor

    def __init__(self, count: int, heads: int, positions: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(count, heads)
        # Computed once and in one place: a logarithm that ONNX Runtime rounds otherwise would change buckets.
        distances = torch.arange(1 - positions, positions, device="cpu")
        self.register_buffer("buckets", _bucket(distances, count), persistent=False)

    def forward(self, length: int) -> Tensor:
        """Return the bias `(1, H, n, n)` for `length` tokens."""
        places = torch.arange(length, device=self.buckets.device)
        distances = places[None] - places[:, None] + (len(self.buckets) // 2)
        bias: Tensor = self.bias(self.buckets[distances])
        return bias.permute(2, 0, 1)[None]


def _bucket(distances: Tensor, count: int) -> Tensor:
    """Return the bucket of each distance, from a query to a key, in [0, count)."""
    half = count // 2
    exact = half // 2
    size = distances.abs()
    logarithm = torch.log(size.clamp(min=1).float() / exact) / math.log(FARTHEST / exact) * (half - exact)
    large = (exact + logarithm.long()).clamp(max=half - 1)
    return (distances > 0).long() * half + torch.where(size < exact, size, large)
