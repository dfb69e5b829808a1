"""VICReg: variance, invariance and covariance (Bardes et al., 2021, https://arxiv.org/abs/2105.04906).

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

SMALL = 1e-4  # the paper's, added to the variance: its square root has no slope at 0


class VicReg(TwoViews):
    """Make two views of an image alike, each unit of the projection vary over images, and no two units say the same.

    Attributes:
        invariance: Weight of the distance of two views; the paper's is 25.
        variance: Weight of the hinge that keeps the deviation of each unit at 1 or above; 0 collapses.
        covariance: Weight of the squared covariances of units.
        width: Units of each of the three layers of the projection, which is discarded; 8,192 in the paper.
    """

    invariance: float = Field(default=25.0, ge=0)
    variance: float = Field(default=25.0, ge=0)
    covariance: float = Field(default=1.0, ge=0)
    width: int = Field(default=512, ge=2)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection."""
        super().prepare(net, tasks)
        return watch_collapse(Projected(net, [self.width] * 3), tasks[-1].val)

    def loss(self, learner: Projected, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the three weighted terms."""
        first, second = learner.project(batch).chunk(2)
        with full_precision(first):
            return {
                "invariance": self.invariance * F.mse_loss(first, second),
                "variance": self.variance * (variance_hinge(first) + variance_hinge(second)) / 2,
                "covariance": self.covariance * (covariance_penalty(first) + covariance_penalty(second)),
            }


def variance_hinge(projected: Tensor) -> Tensor:
    """Return how far the deviations of units `(B, P)` are below 1, on average."""
    return F.relu(1 - (projected.var(0) + SMALL).sqrt()).mean()


def covariance_penalty(projected: Tensor) -> Tensor:
    """Return the sum of squared covariances of different units `(B, P)`, over P."""
    centred = projected - projected.mean(0)
    covariance = centred.mT @ centred / (len(centred) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / covariance.shape[0]
