"""A head that attends, for each task, to the maps of the body's stages (Liu et al., 2019, https://arxiv.org/abs/1803.10704).

Shape legend: B batch, T tasks, D channels of the last stage, d channels of a stage, h and w sides of a map.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.net.heads.build import build_head
from effxfer.net.heads.multi_head import SplitHead
from effxfer.net.heads.pools import MapReader
from effxfer.net.heads.spec import HeadSpec

SQUEEZE = 4  # as in LibMTL's version for ResNets: a mask is computed from a quarter of the channels
# What tasks share of it, in the names of its weights.
SHARED = ".pool.shared."


class Mtan(SplitHead):
    """Multi-task attention: each task weighs the channels and places of every stage by a mask of its own.

    Attributes:
        pool: Maps what the stages give to the features of all tasks side by side, `(B, T D)`.
    """

    def __init__(self, pool: "TaskAttention", heads: Sequence[nn.Module]) -> None:
        super().__init__(heads)
        self.pool = pool

    def select(self, numbers: Sequence[int]) -> nn.Module:
        """Return the head of some tasks; also a single one needs its masks."""
        tasks = nn.ModuleList([self.pool.tasks[number] for number in numbers])
        return Mtan(TaskAttention(self.pool.shared, tasks), [self.heads[number] for number in numbers])


class TaskAttention(MapReader):
    """The masks of all tasks.

    Masks are twice a sigmoid, and 1 at the start, where the paper's are a sigmoid: an untrained one is hard sharing.

    Attributes:
        shared: Maps from the attended map of each stage but the last to the width of the next one.
        tasks: The masks of each task, one for each stage.
    """

    def __init__(self, shared: nn.ModuleList, tasks: nn.ModuleList) -> None:
        super().__init__()
        self.shared, self.tasks = shared, tasks

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Map what stages give, the first and the last map `(B, d, h, w)` of each in turn, to `(B, T D)`."""
        stages = list(zip(outputs[::2], outputs[1::2], strict=True))
        features = [self._attend(masks, stages).mean((2, 3)) for masks in self.tasks]  # type: ignore[arg-type]
        return torch.cat(features, 1)

    def _attend(self, masks: nn.ModuleList, stages: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        first, last = stages[0]
        attended: Tensor = masks[0](first) * last
        for number, (first, last) in enumerate(stages[1:], 1):
            # Smaller before the convolution, not after it as in the paper: a quarter of the multiply-adds.
            smaller = _shrink(attended, last)
            attended = masks[number](torch.cat([first, self.shared[number - 1](smaller)], 1)) * last
        return attended


class AttentionMask(nn.Module):
    """A mask in (0, 2) for each channel and place: `(B, d_in, h, w)` to `(B, d, h, w)`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        middle = max(width // SQUEEZE, 1)
        self.squeeze = nn.Conv2d(inputs, middle, 1, bias=False)
        self.squeeze_norm = nn.BatchNorm2d(middle)
        self.expand = nn.Conv2d(middle, width, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.expand_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the mask."""
        middle = F.relu(self.squeeze_norm(self.squeeze(x)))
        return 2 * torch.sigmoid(self.expand_norm(self.expand(middle)))


class SharedMap(nn.Module):
    """A convolution of 3 x 3 that tasks share: `(B, d, h, w)` to `(B, width, h, w)`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise and rectify."""
        return F.relu(self.norm(self.conv(x)))


def build_mtan(channels: Sequence[int], widths: Sequence[int]) -> Mtan:
    """Build an untrained head.

    Args:
        channels: Of the first and the last map of each stage in turn, shallowest stage first.
        widths: Columns of each task.
    """
    pairs = list(zip(channels[::2], channels[1::2], strict=True))
    lasts = [last for _, last in pairs]
    shared = nn.ModuleList([SharedMap(inputs, width) for inputs, width in pairwise(lasts)])
    masks = [
        nn.ModuleList([
            AttentionMask(first + (last if place else 0), last) for place, (first, last) in enumerate(pairs)
        ])
        for _ in widths
    ]  # fmt: skip
    heads = [build_head(HeadSpec(), lasts[-1], columns) for columns in widths]
    return Mtan(TaskAttention(shared, nn.ModuleList(masks)), heads)


def _shrink(x: Tensor, like: Tensor) -> Tensor:
    """Bring a map to the sides of the next stage's: the largest number of each window, then the nearest one."""
    window = [max(round(x.shape[axis] / like.shape[axis]), 1) for axis in (2, 3)]
    # Rounded up, as a padded convolution with a stride does.
    smaller = F.max_pool2d(x, window, ceil_mode=True) if max(window) > 1 else x
    # Convolutions without padding leave other sides.
    return smaller if smaller.shape[2:] == like.shape[2:] else F.interpolate(smaller, list(like.shape[2:]))
