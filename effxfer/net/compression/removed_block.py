"""The edit `remove_blocks`: leave out residual blocks, and whatever else preserves a tensor's shape."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from effxfer.errors import ModelFileError, did_you_mean
from effxfer.net.compression.masks import remove_masks_inside
from effxfer.net.net import Net


class RemovedBlock(nn.Identity):
    """Returns its first input: blocks of a text encoder take the bias of attention beside their tokens."""

    def forward(self, x: Tensor, *_extra: Any) -> Tensor:
        """Return `x`."""
        return x


def remove_blocks(net: nn.Module, *, names: Sequence[str]) -> None:
    """Replace modules that preserve a tensor's shape, such as residual blocks, by the identity.

    Raises:
        ModelFileError: If one of them is not there, or feeds the head by a tap.
    """
    modules = dict(net.named_modules())
    for name in names:
        if name not in modules:
            raise ModelFileError(f"the network has no block {name!r}{did_you_mean(name, modules)}")
        if is_tapped_within(net, name):
            raise ModelFileError(f"{name} cannot be left out: the head is fed by it", "choose other taps")
    for name in names:
        if isinstance(net, Net):
            remove_masks_inside(net, name)
        net.set_submodule(name, RemovedBlock())


def is_tapped_within(net: nn.Module, name: str) -> bool:
    """Whether the head is fed by a module or by something inside it."""
    return isinstance(net, Net) and any(f"body.{tap}.".startswith(f"{name}.") for tap in net.taps)
