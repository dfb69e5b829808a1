"""Networks that shuffle channels: ShuffleNet (https://arxiv.org/abs/1707.01083) and its second version (1807.11164)."""

import torch
from torch import nn
from torch.nn import functional as F


def shuffled(x, groups):
    n, channels, height, width = x.shape
    return x.view(n, groups, channels // groups, height, width).transpose(1, 2).reshape(n, channels, height, width)


class Unit(nn.Module):
    """Grouped convolution, shuffle, depthwise convolution, grouped convolution, residual."""

    def __init__(self, width, groups):
        super().__init__()
        self.groups = groups
        self.reduce = nn.Conv2d(width, width // 2, 1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(width // 2)
        self.depth = nn.Conv2d(width // 2, width // 2, 3, padding=1, groups=width // 2)
        self.expand = nn.Conv2d(width // 2, width, 1, groups=groups)

    def forward(self, x):
        y = shuffled(F.relu(self.norm(self.reduce(x))), self.groups)
        return F.relu(x + self.expand(self.depth(y)))


class Grouped(nn.Module):
    default_cfg = {"input_size": (3, 32, 32)}  # noqa: RUF012

    def __init__(self, width=108, groups=3):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.units = nn.Sequential(Unit(width, groups), Unit(width, groups))

    def forward(self, x):
        return self.units(F.relu(self.stem(x)))


class Half(nn.Module):
    """Leaves half of its channels alone, convolves the other half, and shuffles both."""

    def __init__(self, width):
        super().__init__()
        self.one = nn.Conv2d(width // 2, width // 2, 1)
        self.depth = nn.Conv2d(width // 2, width // 2, 3, padding=1, groups=width // 2)
        self.two = nn.Conv2d(width // 2, width // 2, 1)

    def forward(self, x):
        kept, changed = x.chunk(2, dim=1)
        return shuffled(torch.cat([kept, F.relu(self.two(self.depth(F.relu(self.one(changed)))))], 1), 2)


class Halved(nn.Module):
    default_cfg = {"input_size": (3, 32, 32)}  # noqa: RUF012

    def __init__(self, width=32):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.units = nn.Sequential(*[Half(width) for _ in range(3)])
        self.last = nn.Conv2d(width, 2 * width, 1)

    def forward(self, x):
        return self.last(self.units(F.relu(self.stem(x)))).relu()
