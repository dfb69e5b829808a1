"""What strategies share that compare two augmented views of each image.

Shape legend: B images, P units of the projection.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.self_supervised.collapse import RANK, judge_rank
from effxfer.transfer.self_supervised.views import VIEWS, draw_views, refuse_options_of_labels


class TwoViews(Strategy):
    """Base of the strategies that compare two views of each image; the rank of the features chooses the epoch.

    Attributes:
        batch: Images per step, over all processes; each is seen in two views.
        augment: What the views of an image differ by.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False
    compares_examples: ClassVar[bool] = True
    judged_by: ClassVar[str] = RANK

    augment: Augment = VIEWS
    batch: int = Field(default=64, ge=2)

    @model_validator(mode="after")
    def _uses_no_labels(self) -> Self:
        refuse_options_of_labels(self)
        return self

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of two views, see `draw_views`."""
        return draw_views(tasks, self.batch, self.augment, device)

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the rank of the features, see `judge_rank`."""
        return judge_rank(learner, tasks[-1].val, device)


def negative_cosine(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return minus the mean cosine of rows `(B, P)`, in [-1, 1]; BYOL's squared distance is 2 + 2 times it."""
    return -F.cosine_similarity(predicted, targets, dim=1).mean()
