"""Low-rank changes of weights (Hu et al., 2021, https://arxiv.org/abs/2106.09685), of convolutions as well.

Shape legend: G groups, O outputs per group, I inputs per group times kernel, R rank.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import parametrize

from effxfer.net.net import Net


class LowRank(nn.Module):
    """Adds `alpha / R` times a product of two thin matrices per group to a weight; at first it adds nothing.

    Args:
        weight: `(G * O, ...)`; every row is weighed by I numbers.
        rank: R, at least 1.
        alpha: Any number; 0 leaves the weight as it is.
        groups: G.
        keep: Mask of a ticket, of the weight's shape: what it removed gets no change.
    """

    keep: Tensor | None

    def __init__(self, weight: Tensor, rank: int, alpha: float, groups: int = 1, keep: Tensor | None = None) -> None:
        super().__init__()
        self.up = nn.Parameter(weight.new_zeros(groups, weight.shape[0] // groups, rank))
        self.down = nn.Parameter(weight.new_empty(groups, rank, weight[0].numel()))
        nn.init.uniform_(self.down, -1 / math.sqrt(weight[0].numel()), 1 / math.sqrt(weight[0].numel()))
        self.scale = alpha / rank
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Give the changed weight."""
        change = self.scale * (self.up @ self.down).view(weight.shape)
        return weight + (change if self.keep is None else change * self.keep)


def low_rank_size(weight: Tensor, rank: int, groups: int = 1) -> int:
    """Count the numbers that `LowRank` would have."""
    return rank * (weight.shape[0] + groups * weight[0].numel())


def lora(net: Net, *, weights: Sequence[str], rank: int, alpha: float) -> None:
    """Give weights of convolutions and linear layers a low-rank change; as in `LowRank`."""
    masks = net.masks()
    for name in weights:
        path, _, leaf = name.rpartition(".")
        layer = net.get_submodule(path)
        groups = int(getattr(layer, "groups", 1))
        change = LowRank(net.get_parameter(name), rank, alpha, groups, masks.get(name))
        parametrize.register_parametrization(layer, leaf, change, unsafe=True)
