"""BitFit: train only the biases (Ben Zaken et al., 2021, https://arxiv.org/abs/2106.10199)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.transfer.adapters.attach import attach_adapter, detach_adapter
from effxfer.transfer.base import Strategy


class BitFit(Strategy):
    """Train the biases of all layers and norms, and the head; BatchNorm statistics are frozen.

    If the body has no biases, only the head is trained.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)
    adds: ClassVar[Literal["", "weights", "layers"]] = "weights"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze everything but the biases and the head."""
        attach_adapter(net, None)
        for name, parameter in net.body.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
        return net

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Unfreeze the body."""
        return detach_adapter(learner, merge=False)
