"""The edit `factorize`: replace layers by the product of two, with fewer weights.

A k x k convolution becomes one with r outputs, then a 1 x 1 convolution, as in Zhang et al., 2015
(https://arxiv.org/abs/1505.06798); a linear layer becomes two.

Shape legend: O outputs, I inputs, r the rank.
"""

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from effxfer.errors import ModelFileError, did_you_mean
from effxfer.net.net import Net

FIRST, SECOND = "first", "second"


class LowRankLayer(nn.Sequential):
    """A layer `(r, I, k, k)` without bias, and behind it one `(O, r, 1, 1)` with the bias."""


def largest_rank(layer: nn.Module) -> int:
    """Return the largest rank at which a layer's two factors have fewer weights than it; 0 if it cannot be split.

    Grouped convolutions cannot, nor layers that compute more than weights times inputs.
    """
    plain = type(layer) in (nn.Linear, nn.Conv2d) or type(layer).__name__ == "Conv2dSame"
    if not plain or getattr(layer, "groups", 1) != 1:
        return 0
    weight = layer.get_parameter("weight")
    outputs, inputs = weight.shape[0], weight[0].numel()
    return (outputs * inputs - 1) // (outputs + inputs)


def factorize(net: nn.Module, *, ranks: Mapping[str, int]) -> None:
    """Replace layers by two untrained ones of their rank.

    Args:
        net: Changed in place.
        ranks: By layer, from 1 to `largest_rank`.

    Raises:
        ModelFileError: If a layer is not there, cannot be split so, or has weights that a ticket masks.
    """
    modules = dict(net.named_modules())
    for name, rank in ranks.items():
        if name not in modules:
            raise ModelFileError(f"the network has no layer {name!r}{did_you_mean(name, modules)}")
        largest = largest_rank(modules[name])
        if not 1 <= rank <= largest:
            text = f"an edit gives {name} the rank {rank}, where {largest} is the largest"
            raise ModelFileError(text, "get an intact copy", code="E404")
        if isinstance(net, Net) and f"{name}.weight" in net.masks():
            raise ModelFileError(f"a ticket masks weights of {name}, which its factors would not keep")
    for name, rank in ranks.items():
        net.set_submodule(name, split_layer(modules[name], rank))


def split_layer(layer: Any, rank: int) -> LowRankLayer:
    """Return two untrained layers of the shapes of a convolution or linear layer of a rank."""
    weight, has_bias = layer.weight, layer.bias is not None
    first = deepcopy(layer)  # with its stride and padding
    first.weight, first.bias = nn.Parameter(torch.zeros_like(weight[:1]).repeat_interleave(rank, 0)), None
    if isinstance(layer, nn.Linear):
        first.out_features = rank
        second: nn.Module = nn.Linear(rank, layer.out_features, has_bias)
    else:
        first.out_channels = rank
        second = nn.Conv2d(rank, layer.out_channels, 1, bias=has_bias)
    return LowRankLayer(OrderedDict([(FIRST, first), (SECOND, second.to(weight))]))


def dense_name(net: nn.Module, name: str) -> str:
    """Return the layer of the dense network that has a layer's outputs; empty for the first of two factors."""
    owner, _, leaf = name.rpartition(".")
    if owner and isinstance(net.get_submodule(owner), LowRankLayer):
        return owner if leaf == SECOND else ""
    return name
