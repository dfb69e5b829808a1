"""Four blocks of 64 channels: the network of the first few-shot papers.

Vinyals et al., 2016, section 4.1.1, https://arxiv.org/abs/1606.04080.
"""

from torch import Tensor, nn


class Conv4(nn.Module):
    """Each block: a 3x3 convolution, BatchNorm, ReLU, and the largest of each 2x2.

    Args:
        width: Channels of every block; at 28 pixels that is the number of features.
    """

    pretrained_cfg = {  # noqa: RUF012 - the form that timm's networks give it in
        "input_size": (3, 28, 28),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_block(width if i else 3, width) for i in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 3, S, S)` to maps `(B, width, S // 16, S // 16)`."""
        maps: Tensor = self.blocks(x)
        return maps


def conv4(width: int = 64) -> Conv4:
    """Make it: 0.11 M parameters, 11 M multiply-adds at 28 pixels."""
    return Conv4(width)


def _block(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
    )
