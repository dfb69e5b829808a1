"""The edits `sparsify` and `densify`: a ticket's masks begin and end."""

from collections.abc import Sequence

import torch

from effxfer.net.net import Net, mask_name


def sparsify(net: Net, *, weights: Sequence[str]) -> None:
    """Add a mask to the named weights; masks are buffers, so they are saved with the weights."""
    for name in weights:
        net.register_buffer(mask_name(name), torch.ones_like(net.get_parameter(name), dtype=torch.bool))


def densify(net: Net, *, weights: Sequence[str]) -> None:
    """Remove the masks of the named weights."""
    for name in weights:
        delattr(net, mask_name(name))


def remove_masks_inside(net: Net, module: str) -> None:
    """Remove the masks of all weights of a module, by its name, before the module goes."""
    densify(net, weights=[name for name in net.masks() if name.startswith(f"{module}.")])
