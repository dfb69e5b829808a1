"""Barlow Twins: the correlations of two views' units become the identity (Zbontar et al., 2021).

https://arxiv.org/abs/2103.03230.

Shape legend: B images, P units of the projection.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.self_supervised.collapse import watch_collapse
from effxfer.transfer.self_supervised.projection import Projected, full_precision
from effxfer.transfer.self_supervised.two_views import TwoViews


class BarlowTwins(TwoViews):
    """Correlate each unit of the projection with itself in the other view, and with no other unit.

    Attributes:
        weight: Of the correlations of different units; the paper's is 0.0051. 0 leaves all units the same.
        width: Units of each of the three layers of the projection, which is discarded; 8,192 in the paper.
    """

    weight: float = Field(default=0.0051, ge=0)
    width: int = Field(default=512, ge=2)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection."""
        super().prepare(net, tasks)
        return watch_collapse(Projected(net, [self.width] * 3), tasks[-1].val)

    def loss(self, learner: Projected, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return both terms: of a unit with itself, and of different ones."""
        first, second = learner.project(batch).chunk(2)
        with full_precision(first):
            diagonal, off_diagonal = redundancy(first, second)
        return {"diagonal": diagonal, "off_diagonal": self.weight * off_diagonal}


def redundancy(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of `(1 - c_ii)^2` and of `c_ij^2` for the correlations c of units of two views, `(B, P)` each."""
    size = first.shape[0]
    correlation = F.batch_norm(first, None, None, training=True).mT @ F.batch_norm(second, None, None, training=True)
    correlation = correlation / size
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum()
