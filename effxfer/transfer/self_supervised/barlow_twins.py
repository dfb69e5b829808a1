"""Barlow Twins: the correlations of two views' units become the identity (Zbontar et al., 2021).

https://arxiv.org/abs/2103.03230.

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


class BarlowTwins(Strategy):
    """Correlate each unit of the projection with itself in the other view, and with no other unit.

    Attributes:
        weight: Of the correlations of different units; the paper's is 0.0051. 0 leaves all units the same.
        width: Units of each of the three layers of the projection, which is discarded; 8,192 in the paper.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False
    compares_examples: ClassVar[bool] = True
    judged_by: ClassVar[str] = RANK

    augment: Augment = VIEWS
    batch: int = Field(default=64, ge=2)
    weight: float = Field(default=0.0051, ge=0)
    width: int = Field(default=512, ge=2)

    @model_validator(mode="after")
    def _uses_no_labels(self) -> "BarlowTwins":
        refuse_options_of_labels(self)
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection."""
        super().prepare(net, tasks)
        return watch_collapse(Projected(net, [self.width] * 3), tasks[-1].val)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of two views, see `draw_views`."""
        return draw_views(tasks, self.batch, self.augment, device)

    def loss(self, learner: Projected, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return both terms: of a unit with itself, and of different ones."""
        first, second = learner.project(batch).chunk(2)
        with full_precision(first):
            diagonal, off_diagonal = redundancy(first, second)
        return {"diagonal": diagonal, "off_diagonal": self.weight * off_diagonal}

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the rank of the features, see `judge_rank`."""
        return judge_rank(learner, tasks[-1].val, device)


def redundancy(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of `(1 - c_ii)^2` and of `c_ij^2` for the correlations c of units of two views, `(B, P)` each."""
    size = first.shape[0]
    correlation = F.batch_norm(first, None, None, training=True).mT @ F.batch_norm(second, None, None, training=True)
    correlation = correlation / size
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum()
