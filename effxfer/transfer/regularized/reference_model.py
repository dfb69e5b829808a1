"""Wrap a network in training together with a reference copy or auxiliary modules."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from effxfer.net.hooks import hooks
from effxfer.net.net import Net
from effxfer.transfer.regularized.distill import frozen_copy


class ModelWrapper(nn.Module):
    """A wrapper that trains a network together with auxiliary modules.

    Attributes:
        net: The network; the only part that remains after training.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    @property
    def body(self) -> nn.Module:
        """The body of the network in training."""
        return self.net.body

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to logits `(B, C)`."""
        logits: Tensor = self.net(x)
        return logits


class WithReference(ModelWrapper):
    """A network with a frozen copy of its initial state, `source`, which is neither trained nor saved.

    Attributes:
        weights: Further tensors of the strategy, on the network's device.
    """

    def __init__(self, net: Net, weights: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(net)
        self.weights = dict(weights or {})
        # In a tuple, so that torch does not register it: it would be trained, saved and moved with the network.
        self._source = (frozen_copy(net),)

    @property
    def source(self) -> Net:
        """The network as it was when training began, in evaluation mode."""
        return self._source[0]


@contextmanager
def capture_head_inputs(net: Net) -> Iterator[list[Tensor]]:
    """Collect the inputs of the head in the block: features `(B, D)` of each forward pass."""
    inputs_seen: list[Tensor] = []

    def note(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
        inputs_seen.append(inputs[0])

    with hooks([net.head.register_forward_pre_hook(note)]):
        yield inputs_seen
