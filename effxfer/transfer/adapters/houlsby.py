"""Bottleneck adapters in series in a frozen body (Houlsby et al., 2019, https://arxiv.org/abs/1902.00751)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.transfer.adapters.adapter_sites import sites_of
from effxfer.transfer.adapters.attach import attach_adapter, detach_adapter
from effxfer.transfer.base import Strategy


class Houlsby(Strategy):
    """Train bottlenecks after the attention and MLP of each block, or after each block of a CNN, and the head.

    Bottlenecks are nonlinear, so they cannot be merged; the exported file contains them as separate layers.

    Attributes:
        rank: Channels of a bottleneck; 0 trains only the head.
        sites: Shell patterns of the modules to insert bottlenecks after. Empty: attention and MLP of each block, or
            the block if it has neither.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)
    adds: ClassVar[Literal["", "weights", "layers"]] = "layers"

    rank: int = Field(default=8, ge=0, le=4096)  # the smallest of the paper's 8, 64 and 256
    sites: tuple[str, ...] = ()

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body and insert the bottlenecks."""
        if not self.rank:
            return attach_adapter(net, None)
        return attach_adapter(net, {"kind": "houlsby", "sites": sites_of(net, self.sites), "rank": self.rank})

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Unfreeze the body."""
        return detach_adapter(learner, merge=False)
