"""SSF: scale and shift each layer's output (Lian et al., 2022, https://arxiv.org/abs/2210.08823)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.transfer.adapters.attach import attach_adapter, detach_adapter, layers_of, match_names
from effxfer.transfer.base import Strategy


class Ssf(Strategy):
    """Train a factor and a shift for each channel, and the head; the body and its statistics stay frozen.

    Attributes:
        layers: Shell patterns of the layers. Empty: all convolutions, linear layers and norms with a bias.
        merge: Whether to merge factors and shifts into the layers after training; otherwise `export` merges them.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)
    adds: ClassVar[Literal["", "weights", "layers"]] = "weights"

    layers: tuple[str, ...] = ()
    merge: bool = True

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body and add factors and shifts."""
        able = [name for name, layer in layers_of(net, nn.Module).items() if _shifts(net, name, layer)]
        layers = match_names(able, self.layers, "layer with a bias")
        return attach_adapter(net, {"kind": "ssf", "layers": layers} if layers else None)

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Unfreeze the body; merge factors and shifts if `merge` is set."""
        return detach_adapter(learner, merge=self.merge)


def _shifts(net: Net, name: str, layer: nn.Module) -> bool:
    """Whether a layer has one bias per row of its weight; transposed convolutions have none."""
    if any(getattr(layer, leaf, None) is None for leaf in ("weight", "bias")) or getattr(layer, "transposed", False):
        return False
    weight, bias = net.raw_weight(f"{name}.weight"), net.raw_weight(f"{name}.bias")
    return bias.dim() == 1 and weight.dim() > 0 and weight.shape[0] == len(bias)
