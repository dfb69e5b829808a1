"""SimCLR: pick the other view of an image among all views of a batch (Chen et al., 2020).

https://arxiv.org/abs/2002.05709.

Shape legend: B images, P units of the projection.
"""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.self_supervised.collapse import watch_collapse
from effxfer.transfer.self_supervised.projection import Projected, full_precision
from effxfer.transfer.self_supervised.two_views import TwoViews


class SimClr(TwoViews):
    """Make two views of an image alike, and unlike all views of the other images of the batch.

    Attributes:
        temperature: Of the softmax over cosines; the paper's is 0.5 for CIFAR-10 and 0.1 for ImageNet.
        hidden: Units of the hidden layer of the projection, which is discarded; 2,048 in the paper.
        width: Units of its last layer.
    """

    temperature: float = Field(default=0.5, gt=0)
    hidden: int = Field(default=512, ge=2)
    width: int = Field(default=128, ge=2)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection."""
        super().prepare(net, tasks)
        return watch_collapse(Projected(net, [self.hidden, self.width]), tasks[-1].val)

    def loss(self, learner: Projected, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the contrast of all views."""
        first, second = learner.project(batch).chunk(2)
        with full_precision(first):
            return {"contrast": contrast(first, second, self.temperature)}


def contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of picking a view's partner among the 2B - 1 other views (NT-Xent).

    Args:
        first: Projections of one view of each image, `(B, P)`.
        second: Of the other, `(B, P)`.
        temperature: Of the softmax over cosines.
    """
    unit, size = F.normalize(torch.cat([first, second]), dim=1), len(first)
    # A view is no candidate for its own partner.
    cosines = (unit @ unit.mT / temperature).fill_diagonal_(float("-inf"))
    partners = torch.arange(2 * size, device=unit.device).roll(size)
    return F.cross_entropy(cosines, partners)
