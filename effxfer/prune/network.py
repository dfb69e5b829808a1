"""Access to networks for pruning: a `Net`, which records its edits, or any `nn.Module`.

A `Net` is pruned in its body alone and holds the masks of its ticket. Of any other module all layers count, and masks
are the caller's.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.net.edits import EDITS, apply_edit
from effxfer.net.net import BODY, Edit, Net

SEED = 0  # of the example: the same image whenever a network is looked at


def example_of(network: nn.Module, example: Tensor | None = None) -> Tensor:
    """Make one input `(1, ...)` on the network's device, always the same one.

    Args:
        network: A `Net`, which knows the size of its images, or any other module.
        example: Input of any other module, `(N, ...)`. Numbers are drawn from [0, 1) in its place, because one that
            is all zeros would hide what layers do; integers and booleans are taken as they are.

    Raises:
        SettingsError: If there is no example, and the network is no `Net`.
    """
    example = _own_example(network) if example is None else example
    weight = next(network.parameters(), example)
    if not example.is_floating_point():
        return example[:1].to(weight.device)
    # Its own generator: looking at a network must not move the caller's random numbers.
    drawn = torch.rand((1, *example.shape[1:]), generator=torch.Generator().manual_seed(SEED))
    return drawn.to(weight.device, example.dtype)


def _own_example(network: nn.Module) -> Tensor:
    if isinstance(network, Net):
        return torch.from_numpy(network.input.example(1, seed=SEED))
    hint = "pass example=torch.rand(1, 3, 224, 224), of the shape that the network takes"
    raise SettingsError(f"{type(network).__name__} does not say what its input looks like", hint)


def layer_prefix(network: nn.Module) -> str:
    """Return how the names of layers begin that pruning may change: `body.` in a `Net`, anyhow in other modules."""
    return BODY if isinstance(network, Net) else ""


def masks_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a `Net`'s masks by the weight's name, true where a weight is kept; other modules hold none."""
    return network.masks() if isinstance(network, Net) else {}


def prunable_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name the modules that pruning may change: those of a `Net`'s body, or all of any other network."""
    if isinstance(network, Net):
        yield from network.body.named_modules(prefix="body")
    else:
        yield from ((name, module) for name, module in network.named_modules() if name)


def layer_widths(network: nn.Module) -> dict[str, int]:
    """Count the output channels of every convolution and linear layer, by name."""
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)}
    return {n: m.out_features if isinstance(m, nn.Linear) else m.out_channels for n, m in layers.items()}


def edit_(network: nn.Module, kind: str, **arguments: Any) -> Edit:
    """Change the architecture in place; a `Net` records that. Return the edit."""
    if isinstance(network, Net):
        apply_edit(network, kind, **arguments)
    else:
        EDITS[kind](network, **arguments)
    return {"kind": kind, **arguments}
