"""SSF: scale and shift each layer's output (Lian et al., 2022, https://arxiv.org/abs/2210.08823)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.adapters.attach import attach_adapter, detach_adapter, layers_of, match_names
from effxfer.transfer.base import Strategy


class Ssf(Strategy):
    """Train a factor and a shift for each channel, and the head; the body stays frozen, with its statistics.

    Attributes:
        layers: Shell patterns of the layers; none are all convolutions, linear layers and norms that have a bias.
        merge: Put factors and shifts into the layers after training; otherwise they stay until `export`.
    """

    adds: ClassVar[Literal["", "weights", "layers"]] = "weights"

    layers: tuple[str, ...] = ()
    merge: bool = True

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body and put factors and shifts on."""
        able = [name for name, layer in layers_of(net, nn.Module).items() if _shifts(net, name, layer)]
        layers = match_names(able, self.layers, "layer with a bias")
        return attach_adapter(net, {"kind": "ssf", "layers": layers} if layers else None)

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Merge if asked; thaw the body."""
        return detach_adapter(learner, merge=self.merge)


def _shifts(net: Net, name: str, layer: nn.Module) -> bool:
    """Whether a layer has one bias per channel; transposed convolutions have their channels elsewhere."""
    if any(getattr(layer, leaf, None) is None for leaf in ("weight", "bias")) or getattr(layer, "transposed", False):
        return False
    weight, bias = net.raw_weight(f"{name}.weight"), net.raw_weight(f"{name}.bias")
    return bias.dim() == 1 and weight.dim() > 0 and weight.shape[0] == len(bias)
