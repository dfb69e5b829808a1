"""Inputs of scores besides the weights, and gradients of the caller's losses."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.net.hooks import as_evaluated

Losses = Callable[[Any], Iterable[Tensor]]  # of a network of the caller's class


@dataclass(frozen=True, kw_only=True)
class ScoreContext:
    """What a score may need; each score says which of these it uses.

    Attributes:
        examples: Function from a network to its losses on some batches, one after the other.
        seed: Random seed of all random numbers.
    """

    examples: Losses | None = None
    seed: int = 0


def gradients(net: nn.Module, names: Sequence[str], losses: Losses | None) -> Iterator[list[Tensor]]:
    """Return the gradients of each loss by the named weights, one after the other.

    The network runs in evaluation mode, so that its statistics do not move; its own gradients, its mode and what is
    frozen stay as they are. A weight that a loss does not depend on has a gradient of zero.

    Raises:
        SettingsError: If there are no losses.
    """
    if losses is None:
        raise SettingsError("this score needs examples", "pass losses, or use score = 'magnitude'")
    weights = [net.get_parameter(name) for name in names]
    with _require_gradients(net, weights), torch.enable_grad():
        for loss in losses(net):
            # Not `backward`, which would add to gradients that belong to the caller.
            grads = torch.autograd.grad(loss, weights, allow_unused=True)
            yield [torch.zeros_like(w) if g is None else g for w, g in zip(weights, grads, strict=True)]


@contextmanager
def _require_gradients(net: nn.Module, weights: Sequence[Tensor]) -> Iterator[None]:
    frozen = [w for w in weights if not w.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        with as_evaluated(net):
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
