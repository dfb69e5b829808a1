"""Untrained weights for a network that was built and edited before."""

import torch
from torch import Tensor

from effxfer.errors import SettingsError
from effxfer.net.edits import rebuild
from effxfer.net.net import KEEP, Net


def fresh_weights(net: Net, seed: int) -> dict[str, Tensor]:
    """Draw the weights and buffers, head included, that training this network from scratch would begin with.

    Layers that lost channels are drawn as torch draws layers of their size.

    Args:
        net: Stays as it is.
        seed: Of the draw.

    Returns:
        By name, on the CPU; without masks.

    Raises:
        SettingsError: Naming a weight that lost channels and whose module cannot draw itself anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = rebuild(net.backbone, net.edits, net.preprocess, net.classes)
        _redraw_(made)
    return {name: tensor.detach() for name, tensor in made.state_dict().items() if not name.startswith(KEEP)}


def _redraw_(net: Net) -> None:
    modules, own, lost = dict(net.named_modules()), net.state_dict(), dict[str, str]()
    for edit in net.edits:
        for name in edit["shapes"] if edit["kind"] == "resize" else ():
            if name in own and not name.startswith(KEEP):
                lost.setdefault(name.rpartition(".")[0], name)
    for name, weight in lost.items():
        draw = getattr(modules[name], "reset_parameters", getattr(modules[name], "_reset_parameters", None))
        if draw is None:
            raise SettingsError(f"{weight} lost channels and cannot be drawn anew", "start from the weights that came")
        draw()
