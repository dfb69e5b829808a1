"""Scale keys, values and inner activations ((IA)^3: Liu et al., 2022, https://arxiv.org/abs/2205.05638)."""

from collections.abc import Mapping, Sequence

from torch.nn.utils import parametrize

from effxfer.net.adapters.scaling import Scale
from effxfer.net.net import Net


def ia3(net: Net, *, outputs: Mapping[str, int], inputs: Sequence[str]) -> None:
    """Scale the output channels of some layers and the input channels of others.

    Args:
        net: Network, changed in place.
        outputs: By the weight's name, the first row to scale, together with the bias. In a fused layer of queries, keys
            and values, keys and values are the last two thirds of the rows.
        inputs: Names of weights `(O, I, ...)` without groups whose columns are scaled.
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
