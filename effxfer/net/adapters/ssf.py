"""Scale and shift what layers give out (SSF: Lian et al., 2022, https://arxiv.org/abs/2210.08823)."""

from collections.abc import Sequence

from torch.nn.utils import parametrize

from effxfer.net.adapters.scaling import Scale, Shift
from effxfer.net.net import Net


def ssf(net: Net, *, layers: Sequence[str]) -> None:
    """Scale and shift each output channel of layers with a weight and a bias, be they linear, convolutions or norms.

    A convolution without a bias is followed by a norm that has one, and that does the same to the same channels.
    """
    for name in layers:
        layer = net.get_submodule(name)
        scale = Scale(layer.get_parameter("weight"))
        shift = Shift(layer.get_parameter("bias"))
        for leaf, change in (("weight", scale), ("bias", scale), ("bias", shift)):
            parametrize.register_parametrization(layer, leaf, change, unsafe=True)
