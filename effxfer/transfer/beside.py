"""A network in training, and beside it the one that it started from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from effxfer.net.net import Net
from effxfer.transfer.distill import listener


class Beside(nn.Module):
    """A network that remembers what it was: `source` neither learns nor belongs to what is saved.

    Attributes:
        net: What is trained.
        weights: What else a strategy must remember, on the network's device.
    """

    def __init__(self, net: Net, weights: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.net, self.weights = net, dict(weights or {})
        self._source = (listener(net),)

    @property
    def source(self) -> Net:
        """The network as it was when training began, in evaluation mode."""
        return self._source[0]

    @property
    def body(self) -> nn.Module:
        """The body of what is trained."""
        return self.net.body

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to logits `(B, C)`."""
        logits: Tensor = self.net(x)
        return logits


@contextmanager
def seen_by_head(net: Net) -> Iterator[list[Tensor]]:
    """Collect what the head sees in the block: features `(B, D)` of each forward pass."""
    seen: list[Tensor] = []

    def note(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    handle = net.head.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()
