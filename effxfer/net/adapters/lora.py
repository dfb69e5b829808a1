"""LoRA: low-rank updates of the weights of linear layers and convolutions (Hu et al., 2021).

https://arxiv.org/abs/2106.09685.

Shape legend: G groups, O outputs per group, I inputs per group times kernel size, R rank.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import parametrize

from effxfer.net.net import Net


class LowRank(nn.Module):
    """Adds `alpha / R` times a product of two thin matrices per group to a weight; initially it adds zero.

    Args:
        weight: Weight `(G * O, ...)` with I numbers per row.
        rank: R, at least 1.
        alpha: Scale of the update; 0 has no effect on the weight.
        groups: G.
        keep: Mask of a ticket in the weight's shape; removed weights get no update.
    """

    keep: Tensor | None

    def __init__(self, weight: Tensor, rank: int, alpha: float, groups: int = 1, keep: Tensor | None = None) -> None:
        super().__init__()
        # Zeros in one factor only: with both, neither would get a gradient.
        self.up = nn.Parameter(weight.new_zeros(groups, weight.shape[0] // groups, rank))
        self.down = nn.Parameter(weight.new_empty(groups, rank, weight[0].numel()))
        # The bound of torch's own linear layers, as kaiming_uniform with a = sqrt(5) in the paper's code.
        nn.init.uniform_(self.down, -1 / math.sqrt(weight[0].numel()), 1 / math.sqrt(weight[0].numel()))
        self.scale = alpha / rank
        # Not saved: it is the network's own mask.
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, of the same shape."""
        change = self.scale * (self.up @ self.down).view(weight.shape)
        return weight + (change if self.keep is None else change * self.keep)


def low_rank_size(weight: Tensor, rank: int, groups: int = 1) -> int:
    """Count the parameters of a `LowRank` update."""
    return rank * (weight.shape[0] + groups * weight[0].numel())


def lora(net: Net, *, weights: Sequence[str], rank: int, alpha: float) -> None:
    """Add a low-rank update to weights of convolutions and linear layers.

    Args:
        net: Network, changed in place.
        weights: Names of the weights.
        rank: Rank of each update, at least 1.
        alpha: Scale of the updates; see `LowRank`.
    """
    masks = net.masks()
    for name in weights:
        path, _, leaf = name.rpartition(".")
        layer = net.get_submodule(path)
        groups = int(getattr(layer, "groups", 1))
        change = LowRank(net.get_parameter(name), rank, alpha, groups, masks.get(name))
        # `unsafe`: torch would otherwise run the change to check shapes, which are known here.
        parametrize.register_parametrization(layer, leaf, change, unsafe=True)
