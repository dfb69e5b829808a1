"""Project the features of a network for a loss on views; the projection is discarded after training."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.transfer.regularized.reference_model import ModelWrapper


class Projected(ModelWrapper):
    """A network with a projection of its features.

    Args:
        net: The network.
        widths: Units of the layers of the projection.
        normalize_last: Whether BatchNorm follows the last layer, too.
    """

    def __init__(self, net: Net, widths: Sequence[int], *, normalize_last: bool = False) -> None:
        super().__init__(net)
        features = sum(tap_widths(net, net.taps).values())
        self.projector = perceptron([features, *widths], normalize_last=normalize_last)

    def project(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to projections `(B, P)` in float32."""
        projected: Tensor = self.projector(self.net.features(images))
        return projected.float()


def perceptron(widths: Sequence[int], *, normalize_last: bool = False) -> nn.Sequential:
    """Make a multilayer perceptron with BatchNorm and ReLU after each layer but the last.

    Args:
        widths: Inputs of the first layer, and units of each.
        normalize_last: Whether BatchNorm without scale and shift follows the last layer.
    """
    layers = list[nn.Module]()
    for inputs, units in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not normalize_last))
    if normalize_last:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Return a block in which operations on the device of a tensor keep float32: similarities need its digits."""
    return torch.autocast(tensor.device.type, enabled=False)
