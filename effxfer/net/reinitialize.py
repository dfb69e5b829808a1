"""Draw untrained weights for an edited network."""

import torch
from torch import Tensor

from effxfer.errors import SettingsError
from effxfer.net.edits import rebuild
from effxfer.net.net import KEEP, Net


def initial_weights(net: Net, seed: int) -> dict[str, Tensor]:
    """Draw the weights and buffers, including the head, from which training from scratch starts.

    Layers with removed channels are initialized like torch's layers of their present size.

    Args:
        net: Not changed.
        seed: Seed of the initialization.

    Returns:
        By name, on the CPU; without masks.

    Raises:
        SettingsError: If a module with removed channels has no `reset_parameters`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rebuilt = rebuild(net.backbone, net.edits, net.input, net.classes)
        _reinitialize_(rebuilt)
    return {name: tensor.detach() for name, tensor in rebuilt.state_dict().items() if not name.startswith(KEEP)}


def _reinitialize_(net: Net) -> None:
    modules, state, resized = dict(net.named_modules()), net.state_dict(), dict[str, str]()
    for edit in net.edits:
        for name in edit["shapes"] if edit["kind"] == "resize" else ():
            if name in state and not name.startswith(KEEP):
                resized.setdefault(name.rpartition(".")[0], name)
    # Rebuilding draws at full size and then sets zeros for the smaller shape: those must be drawn again.
    for name, weight in resized.items():
        draw = getattr(modules[name], "reset_parameters", getattr(modules[name], "_reset_parameters", None))
        if draw is None:
            raise SettingsError(f"{weight} lost channels and cannot be drawn anew", "start from the weights that came")
        draw()
