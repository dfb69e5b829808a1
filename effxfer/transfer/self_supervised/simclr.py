"""SimCLR: pick the other view of an image among all views of a batch (Chen et al., 2020).

https://arxiv.org/abs/2002.05709.

Shape legend: B images, P units of the projection.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.self_supervised.collapse import RANK, judge_rank, watch_collapse
from effxfer.transfer.self_supervised.projection import Projected, full_precision
from effxfer.transfer.self_supervised.views import VIEWS, draw_views, refuse_options_of_labels


class SimClr(Strategy):
    """Make two views of an image alike, and unlike all views of the other images of the batch.

    Attributes:
        temperature: Of the softmax over cosines; the paper's is 0.5 for CIFAR-10 and 0.1 for ImageNet.
        hidden: Units of the hidden layer of the projection, which is discarded; 2,048 in the paper.
        width: Units of its last layer.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False
    compares_examples: ClassVar[bool] = True
    judged_by: ClassVar[str] = RANK

    augment: Augment = VIEWS
    batch: int = Field(default=64, ge=2)
    temperature: float = Field(default=0.5, gt=0)
    hidden: int = Field(default=512, ge=2)
    width: int = Field(default=128, ge=2)

    @model_validator(mode="after")
    def _uses_no_labels(self) -> "SimClr":
        refuse_options_of_labels(self)
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection."""
        super().prepare(net, tasks)
        return watch_collapse(Projected(net, [self.hidden, self.width]), tasks[-1].val)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of two views, see `draw_views`."""
        return draw_views(tasks, self.batch, self.augment, device)

    def loss(self, learner: Projected, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the contrast of all views."""
        first, second = learner.project(batch).chunk(2)
        with full_precision(first):
            return {"contrast": contrast(first, second, self.temperature)}

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the rank of the features, see `judge_rank`."""
        return judge_rank(learner, tasks[-1].val, device)


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
