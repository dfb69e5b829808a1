"""Learned tokens beside those of the image (VPT: Jia et al., 2022, https://arxiv.org/abs/2203.12119).

They stand behind the image's tokens, whose number is the same again after the last block: attention does not know an
order, and whatever the network reads at its end stays where it is.
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
        bound = math.sqrt(3 / width)
        self.tokens = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Put them behind tokens `(B, n, width)`."""
        return torch.cat([x, self.tokens.to(x.dtype).expand(x.shape[0], -1, -1)], 1)


def prompts(net: Net, *, blocks: Sequence[str], count: int, width: int, deep: bool) -> None:
    """Give the attention of blocks learned tokens to look at.

    Args:
        net: Changed in place.
        blocks: Names of modules in the order in which they run, each from tokens `(B, n, width)` to as many.
        count: Tokens, at least 1.
        width: Of a token.
        deep: Every block has tokens of its own; else those of the first block go through all of them.
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
    """A forward hook that takes the last tokens away again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, _block: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output[:, : -self.count]
