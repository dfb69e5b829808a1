"""Rotation: guess by which quarter turn an image was turned (Gidaris et al., 2018).

https://arxiv.org/abs/1803.07728.

Shape legend: B images.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Split, Task
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import evaluation_batches, evaluation_mode
from effxfer.transfer.base import Strategy, unwrap
from effxfer.transfer.self_supervised.projection import Projected
from effxfer.transfer.self_supervised.views import draw_views, refuse_options_of_labels

TURNS = 4


class Rotation(Strategy):
    """Turn each image by 0, 90, 180 and 270 degrees, and guess by how much.

    For images that have an upright position; round, aerial or microscopic ones teach nothing.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False
    judged_by: ClassVar[str] = "accuracy of turns"

    @model_validator(mode="after")
    def _uses_no_labels(self) -> "Rotation":
        refuse_options_of_labels(self)
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add a linear classifier of the turn."""
        super().prepare(net, tasks)
        return Projected(net, [TURNS])

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of images, each once; see `draw_views`."""
        return draw_views(tasks, self.batch, self.augment, device, views=1)

    def loss(self, learner: Projected, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the turns."""
        images, turns = turn(batch)
        return {"turn": F.cross_entropy(learner.project(images), turns)}

    def judge(self, learner: Projected, tasks: Sequence[Task], device: Device) -> float:
        """Return the accuracy of the turns of the validation images, in points."""
        return turn_accuracy(learner, tasks[-1].val, device)


def turn(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images `(B, 3, S, S)` at all quarter turns, `(4 * B, 3, S, S)`, and the number of each, `(4 * B,)`."""
    turned = torch.cat([images.rot90(number, (2, 3)) for number in range(TURNS)])
    return turned, torch.arange(TURNS, device=images.device).repeat_interleave(len(images))


def turn_accuracy(learner: Projected, split: Split, device: Device) -> float:
    """Return the share of the turns of a split's images that are guessed, in points."""
    net, right = unwrap(learner), 0
    with evaluation_mode(learner):
        for rows in evaluation_batches(split.rows, 64):
            images, turns = turn(input_tensor(split.rows[rows], net.input, device.torch))
            right += int((learner.project(images).argmax(1) == turns).sum())
    return 100 * right / (TURNS * len(split))
