"""Scale keys, values and inner activations ((IA)^3: Liu et al., 2022, https://arxiv.org/abs/2205.05638)."""

from collections.abc import Mapping, Sequence

from torch.nn.utils import parametrize

from effxfer.net.adapters.scaling import Scale
from effxfer.net.net import Net


def ia3(net: Net, *, outputs: Mapping[str, int], inputs: Sequence[str]) -> None:
    """Scale outputs of some layers and inputs of others.

    Args:
        net: Changed in place.
        outputs: Name of a weight to the row from which on its rows are scaled, with those of its bias: in a layer that
            gives queries, keys and values in this order, keys and values are the last two thirds.
        inputs: Names of weights whose columns are scaled, `(O, I, ...)` without groups.
    """
    for name, start in outputs.items():
        path, _, leaf = name.rpartition(".")
        layer = net.get_submodule(path)
        scale = Scale(layer.get_parameter(leaf), start=start)
        bias = leaf.removesuffix("weight") + "bias"
        for parameter in (leaf, bias) if getattr(layer, bias, None) is not None else (leaf,):
            parametrize.register_parametrization(layer, parameter, scale, unsafe=True)
    for name in inputs:
        path, _, leaf = name.rpartition(".")
        layer = net.get_submodule(path)
        parametrize.register_parametrization(layer, leaf, Scale(layer.get_parameter(leaf), axis=1), unsafe=True)
