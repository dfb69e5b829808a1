"""Fold constant channels into the layers that read them, and drop these inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.prune.network import edit_

# Padding of these kinds repeats the constant, so that it is the same at the border.
ROLLED = ("circular", "reflect", "replicate")


@dataclass(frozen=True, kw_only=True, eq=False)
class DroppedInputs:
    """Inputs that a layer stops reading.

    Attributes:
        channels: Positions of the channels `(K,)`.
        values: The number that each of them always is, `(K,)`; 0 adds nothing.
        norm: The BatchNorm that takes the layer's output, if one does; it can take the place of a bias.
    """

    channels: Tensor
    values: Tensor
    norm: str = ""


def is_foldable(layer: nn.Module) -> bool:
    """Whether a constant input channel adds the same number at every position.

    So does not a convolution with a wider kernel that sees zeros beyond the border: what the constant adds there is
    less. Layers that are derived from a plain convolution may pad where they do not say so, and count as padding.
    """
    if isinstance(layer, nn.Linear):
        return True
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return False
    padding = layer.padding if isinstance(layer.padding, str) else max(layer.padding)
    unpadded = padding in (0, "valid")
    if max(layer.kernel_size) == 1:
        return unpadded or padding == "same"
    # Not `isinstance`: timm's "same" convolutions pad by themselves and say padding 0.
    plain = type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return plain and (unpadded or layer.padding_mode in ROLLED)


@torch.no_grad()
def fold_(net: nn.Module, cuts: Mapping[str, DroppedInputs]) -> None:
    """Make layers stop reading channels, in place, without changing what the network computes.

    What constant channels contributed goes into the layer's bias; without one, into the running mean of the BatchNorm
    behind it; without that either, into a new bias, which is recorded as an edit.

    Args:
        net: Network in evaluation mode.
        cuts: Removed inputs, by the name of the reading layer.
    """
    shifts = {name: _drop_inputs_(net.get_submodule(name), cut) for name, cut in cuts.items()}
    shifts = {name: shift for name, shift in shifts.items() if bool((shift != 0).any())}
    lacking = [n for n in shifts if getattr(net.get_submodule(n), "bias", None) is None and not cuts[n].norm]
    if lacking:
        edit_(net, "add_bias", layers=lacking)
    for name, shift in shifts.items():
        bias = getattr(net.get_submodule(name), "bias", None)
        if bias is not None:
            # In double precision: many small constants add up.
            bias.copy_((bias.double() + shift).to(bias.dtype))
        else:
            mean: Any = net.get_submodule(cuts[name].norm).running_mean
            mean.copy_((mean.double() - shift).to(mean.dtype))


def _drop_inputs_(layer: nn.Module, cut: DroppedInputs) -> Tensor:
    """Zero a layer's weights on some inputs, in place; return their contribution to its outputs, `(O,)`."""
    weight = layer.get_parameter("weight")
    groups = int(getattr(layer, "groups", 1))
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    shift = torch.zeros(weight.shape[0], dtype=torch.double, device=weight.device)
    every, values = cut.channels.to(weight.device), cut.values.to(shift)
    for group in (every // inputs).unique().tolist():
        in_group, rows = every // inputs == group, slice(group * outputs, (group + 1) * outputs)
        columns = every[in_group] % inputs
        read = weight[rows, columns].double()
        shift[rows] = read.reshape(*read.shape[:2], -1).sum(-1) @ values[in_group]
        weight[rows, columns] = 0
    return shift
