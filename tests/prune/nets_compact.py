"""Small networks, each with one thing that makes compaction hard."""

import torch
from torch import nn
from torch.nn import functional as F


class Plain(nn.Module):
    """Convolutions with and without bias, norm and padding; a pool, and a linear layer after flattening."""

    default_cfg = {"input_size": (3, 12, 12)}  # noqa: RUF012

    def __init__(self, width=8, bias=True, padding=0, activation="relu", mode="zeros"):
        super().__init__()
        self.act = getattr(F, activation)
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=padding, bias=bias, padding_mode=mode)
        self.conv3 = nn.Conv2d(width, width, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(width)
        self.last = nn.LazyLinear(2 * width)
        self.last(torch.zeros(1, width * 9))

    def forward(self, x):
        x = self.act(self.conv2(self.act(self.bn1(self.conv1(x)))))
        x = self.act(self.bn3(self.conv3(x)))
        return self.act(self.last(F.adaptive_avg_pool2d(x, 3).flatten(1)))


class Joined(nn.Module):
    """Concatenates two branches, shuffles channels, and rescales them by what they are (squeeze and excite)."""

    default_cfg = {"input_size": (3, 8, 8)}  # noqa: RUF012

    def __init__(self, width=8):
        super().__init__()
        self.one = nn.Conv2d(3, width, 3, padding=1)
        self.other = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(2 * width, width, 1)
        self.squeeze = nn.Conv2d(width, 4, 1)
        self.excite = nn.Conv2d(4, width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x):
        x = self.mix(torch.cat([F.relu(self.one(x)), F.relu(self.norm(self.other(x)))], 1))
        x = F.hardswish(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.out(x * gate)


class Averaged(nn.Module):
    """A norm over channels between two convolutions."""

    default_cfg = {"input_size": (3, 8, 8)}  # noqa: RUF012

    def __init__(self, groups=1):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.norm = nn.GroupNorm(groups, 8)
        self.second = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.second(self.norm(self.first(x)))
