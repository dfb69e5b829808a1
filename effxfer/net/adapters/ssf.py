"""SSF: scale and shift the outputs of layers (Lian et al., 2022, https://arxiv.org/abs/2210.08823)."""

from collections.abc import Sequence

from torch.nn.utils import parametrize

from effxfer.net.adapters.scaling import Scale, Shift
from effxfer.net.net import Net


def ssf(net: Net, *, layers: Sequence[str]) -> None:
    """Scale and shift each output channel of linear layers, convolutions and norms that have a weight and a bias.

    A convolution without a bias is usually followed by a norm with one, which scales and shifts the same channels.

    Args:
        net: Network, changed in place.
        layers: Names of the layers.
    """
    for name in layers:
        layer = net.get_submodule(name)
        scale = Scale(layer.get_parameter("weight"))
        shift = Shift(layer.get_parameter("bias"))
        for leaf, change in (("weight", scale), ("bias", scale), ("bias", shift)):
            parametrize.register_parametrization(layer, leaf, change, unsafe=True)
