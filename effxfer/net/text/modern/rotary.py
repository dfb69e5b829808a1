"""Rotary positions (RoFormer: Su et al., 2021, https://arxiv.org/abs/2104.09864), and attention within a window.

Shape legend: n tokens, H heads, d width of a head.
"""

import torch
from torch import Tensor, nn

from effxfer.net.text.token_pooling import HIDDEN


class RotaryPositions(nn.Module):
    """Turns queries and keys by angles that grow with their positions, so that scores depend on distances alone.

    The angle of a pair of numbers is that of the first and second half of a head, as in Llama and ModernBERT.

    Args:
        head: d, even.
        base: Of the geometric series of wavelengths; 10,000 in the paper.
    """

    frequencies: Tensor

    def __init__(self, head: int, base: float) -> None:
        super().__init__()
        exponents = torch.arange(0, head, 2, dtype=torch.float32, device="cpu") / head
        self.register_buffer("frequencies", 1.0 / base**exponents, persistent=False)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys `(B, H, n, d)`; computed in float32."""
        places = torch.arange(query.shape[2], device=query.device).float()
        angles = places[:, None] * self.frequencies[None]
        angles = torch.cat([angles, angles], 1)
        cosines, sines = angles.cos(), angles.sin()
        return _turn(query, cosines, sines), _turn(key, cosines, sines)


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return (x.float() * cosines + turned * sines).to(x.dtype)


def window_bias(length: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what attention adds to its scores, so that no token attends to those farther away than `window`.

    Returns:
        `(1, 1, n, n)`: 0, or `HIDDEN`.
    """
    places = torch.arange(length, device=device)
    return ((places[None] - places[:, None]).abs() > window).to(dtype)[None, None] * HIDDEN
