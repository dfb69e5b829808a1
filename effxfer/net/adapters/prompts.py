"""Visual prompt tuning: learned tokens besides those of the image (VPT; Jia et al., 2022).

https://arxiv.org/abs/2203.12119.

The learned tokens follow the image's tokens, and are removed after the last block. Attention does not depend on the
order of tokens, and the tokens that the network reads at its end stay in their places.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.net import Net

PROMPTS = "prompts"


class Prompts(nn.Module):
    """Learned tokens, `(count, width)`."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        # A variance of 1 / width, so that a token has length 1. Chosen: VPT's own bound is that of the patch embedding.
        bound = math.sqrt(3 / width)
        self.tokens = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Append the learned tokens to tokens `(B, n, width)`; return `(B, n + count, width)`."""
        return torch.cat([x, self.tokens.to(x.dtype).expand(x.shape[0], -1, -1)], 1)


def prompts(net: Net, *, blocks: Sequence[str], count: int, width: int, deep: bool) -> None:
    """Add learned tokens to the input of transformer blocks.

    Args:
        net: Network, changed in place.
        blocks: Names of the blocks in the order of execution; each maps tokens `(B, n, width)` to the same shape.
        count: Number of learned tokens, at least 1.
        width: Width of a token.
        deep: Whether each block has its own tokens; otherwise those of the first block pass through all blocks.
    """
    for name in blocks if deep else blocks[:1]:
        block = net.get_submodule(name)
        block.add_module(PROMPTS, Prompts(count, width).to(next(net.parameters()).device))
        block.register_forward_pre_hook(_append_prompts)
    for name in blocks if deep else blocks[-1:]:
        net.get_submodule(name).register_forward_hook(_RemovePrompts(count))


def _append_prompts(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return block.get_submodule(PROMPTS)(inputs[0]), *inputs[1:]


class _RemovePrompts:
    """Forward hook that removes the last tokens."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, _block: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output[:, : -self.count]
