"""Networks that the tests of this room build by name."""

import torch
from torch import Tensor, nn

from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.runtime.images.preprocess import Preprocess

WIDE = {"source": "effxfer.net.cifar:resnet20", "args": {"width": 8}}
SMALL = Preprocess(size=16)


class Flat(nn.Module):
    """A stem and two blocks; the classifier is called as in torchvision."""

    pretrained_cfg = {  # noqa: RUF012
        "input_size": (3, 16, 16), "crop_pct": 0.9, "interpolation": "bilinear",
        "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2),
    }  # fmt: skip

    def __init__(self, num_classes: int = 1000, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 2, 1)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def flat(width: int = 4) -> nn.Module:
    """A factory that says what it makes, and takes no number of classes."""
    return Flat(0, width)


def untold(width=4):
    """A factory that does not say what it makes."""
    return Flat(0, width)


def made(taps=("out",), spec=None, backbone=None) -> Net:
    """A small network with a head and statistics that are not all equal."""
    torch.manual_seed(0)
    net = Net(backbone or WIDE, SMALL).eval()
    widths = tap_widths(net, taps)
    apply_edit(
        net,
        "set_head",
        spec=spec or {"kind": "linear"},
        features=sum(widths.values()),
        classes=["a", "b", "c"],
        taps=list(taps),
    )
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def inputs(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def holds_weights_of(loaded: nn.Module, trained: nn.Module) -> bool:
    """Whether a network's tensors all equal those of the same name in another one."""
    return all(torch.equal(t, trained.state_dict()[name]) for name, t in loaded.state_dict().items())


def halved(net: Net) -> None:
    """Cut the first block's inner channels by hand."""
    block = net.body.stage1[0]
    keep = list(range(4))
    block.conv1.weight = nn.Parameter(block.conv1.weight[keep].detach().clone())
    block.conv1.out_channels = block.bn1.num_features = block.conv2.in_channels = 4
    block.conv2.weight = nn.Parameter(block.conv2.weight[:, keep].detach().clone())
    for name in ("weight", "bias"):
        setattr(block.bn1, name, nn.Parameter(getattr(block.bn1, name)[keep].detach().clone()))
    for name in ("running_mean", "running_var"):
        setattr(block.bn1, name, getattr(block.bn1, name)[keep].clone())
