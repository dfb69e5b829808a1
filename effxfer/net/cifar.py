"""Residual networks for 32x32 images (He et al., 2015, section 4.2, https://arxiv.org/abs/1512.03385).

The shortcut where the size changes is a 1x1 convolution (option B), so that channel pruning can follow it.
"""

from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: `(B, D, h, w)` to `(B, width, h/stride, w/stride)`."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Add the shortcut to the convolved input."""
        y = self.act(self.bn1(self.conv1(x)))
        out: Tensor = self.act(self.shortcut(x) + self.bn2(self.conv2(y)))
        return out


class ResNet(nn.Module):
    """Stem, three stages of blocks at 32, 16 and 8 pixels, and an average over positions.

    Args:
        blocks: Blocks per stage; 3 makes ResNet-20.
        width: Channels of the first stage; the others have twice and four times as many.
    """

    pretrained_cfg = {  # noqa: RUF012 - the form that timm's networks give it in
        "input_size": (3, 32, 32),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        # Of CIFAR-10's training images.
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    }

    def __init__(self, blocks: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = _stage(width, width, blocks, 1)
        self.stage2 = _stage(width, 2 * width, blocks, 2)
        self.stage3 = _stage(2 * width, 4 * width, blocks, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # As torchvision's ResNets: keeps the variance of gradients.
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 3, 32, 32)` to features `(B, 4 * width)`."""
        features: Tensor = self.stage3(self.stage2(self.stage1(self.stem(x)))).mean((2, 3))
        return features


def resnet20(width: int = 16) -> ResNet:
    """Make ResNet-20: 0.27 M parameters, 41 M multiply-adds."""
    return ResNet(3, width)


def resnet56(width: int = 16) -> ResNet:
    """Make ResNet-56: 0.86 M parameters, 127 M multiply-adds."""
    return ResNet(9, width)


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*(Block(inputs if i == 0 else width, width, stride if i == 0 else 1) for i in range(blocks)))
