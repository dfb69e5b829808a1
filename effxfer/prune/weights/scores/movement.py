"""Movement: weights that training moves towards zero go (Sanh et al., 2020, https://arxiv.org/abs/2005.07683).

In the paper, removed weights still get gradients and may return. Here they are gone: after few steps the signs are
chance, and large weights go. In 60 steps of MiniLM the first 4 % took 11 % of the squared norm, and the loss rose from
0.4 to 5 (240 questions of TREC). Train for long, or use `magnitude`.

What was added up lives in buffers of the network, so that it is in the checkpoints of a training that goes on later.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.prune.weights.scores.context import ScoreContext

MOVED = "moved/"


def movement(net: nn.Module, names: Sequence[str], _context: ScoreContext) -> dict[str, Tensor]:
    """Score each weight by how much training moved it away from zero, in the loss's unit.

    Args:
        net: A network that was trained since `watch_`, with `add_movement_` before each step.
        names: Names of the weights to score.
        _context: Not used.

    Returns:
        By name, the sum of `-w * dL/dw` over the steps, of the weight's shape, of either sign; 0 is a weight that did
        not move, below 0 it shrank.

    Raises:
        SettingsError: If the movement of a weight was not watched.
    """
    watched = dict(net.named_buffers(recurse=False))
    unknown = [name for name in names if _buffer(name) not in watched]
    if unknown:
        raise SettingsError(f"the movement of {unknown[0]} was not watched", "train first, or use score = 'magnitude'")
    return {name: watched[_buffer(name)].clone() for name in names}


def watch_(net: nn.Module, names: Sequence[str]) -> None:
    """Begin to add up the movement of the named weights at zero."""
    for name in names:
        net.register_buffer(_buffer(name), torch.zeros_like(net.get_parameter(name), requires_grad=False))


def forget_(net: nn.Module) -> None:
    """Take the sums out of the network, which cannot be rebuilt with them."""
    for name in [n for n, _ in net.named_buffers(recurse=False) if n.startswith(MOVED)]:
        delattr(net, name)


@torch.no_grad()
def add_movement_(net: nn.Module) -> None:
    """Add one step's movement: call it when gradients are there and weights have not moved yet.

    A gradient that overflowed in half precision adds nothing, as the optimizer skips its step.
    """
    for name, total in net.named_buffers(recurse=False):
        if name.startswith(MOVED):
            weight = net.get_parameter(name.removeprefix(MOVED).replace("/", "."))
            if weight.grad is not None:
                # In float16 a step with infinite gradients is skipped by the optimizer, so nothing moved.
                total.sub_((weight * weight.grad).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))


def _buffer(name: str) -> str:
    return MOVED + name.replace(".", "/")
