"""Bottleneck adapters in parallel to modules of a frozen body (He et al., 2021, https://arxiv.org/abs/2110.04366)."""

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


class ParallelAdapter(Strategy):
    """Train bottlenecks in parallel to each MLP of a transformer, or to each block of a CNN, and the head.

    Bottlenecks are nonlinear, so they cannot be merged; the exported file contains them as separate layers.

    Attributes:
        rank: Channels of a bottleneck; 0 trains only the head.
        scale: Factor on the output of a bottleneck.
        sites: Shell patterns of the modules to add bottlenecks to. Empty: the MLP of each block, or the block if it has
            none.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)
    adds: ClassVar[Literal["", "weights", "layers"]] = "layers"

    rank: int = Field(default=8, ge=0, le=4096)
    scale: float = Field(default=1.0, gt=0)  # its output starts at 0, so that a larger scale acts like a larger rate
    sites: tuple[str, ...] = ()

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body and add the bottlenecks."""
        if not self.rank:
            return attach_adapter(net, None)
        sites = sites_of(net, self.sites, attention=False)
        return attach_adapter(net, {"kind": "parallel_adapter", "sites": sites, "rank": self.rank, "scale": self.scale})

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Unfreeze the body."""
        return detach_adapter(learner, merge=False)
