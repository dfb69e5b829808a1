"""Small networks and a small problem that the pruning tests share."""

import json

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.prune.weights.lottery import by_magnitude
from effxfer.prune.weights.select import select
from effxfer.runtime.images.preprocess import Preprocess


class Tiny(nn.Module):
    """Two convolutions with norms, one depthwise between them."""

    default_cfg = {"input_size": (3, 8, 8)}  # noqa: RUF012

    def __init__(self, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.depth = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(self.depth(F.relu(self.bn1(self.conv1(x)))))))


class Reshaped(nn.Module):
    """Counts its channels on the Python side, as attention layers do."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = self.first(x)
        y = y.view(x.shape[0], 2, 4, *y.shape[2:]).sum(1, keepdim=True).expand(-1, 2, -1, -1, -1)
        return self.second(y.reshape(x.shape[0], 8, *y.shape[3:]))


class Shifted(nn.Module):
    """Rolls its channels, which autograd shows as an element-wise operation."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).roll(1, 1).relu())


class Normed(nn.Module):
    """A wide LayerNorm between two linear layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 400)
        self.norm = nn.LayerNorm(400)
        self.second = nn.Linear(400, 4)

    def forward(self, x):
        return self.second(self.norm(self.first(x.mean((2, 3)))))


class Attending(nn.Module):
    """One convolution and torch's own attention, whose three projections are one parameter."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 4, stride=4)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = self.first(x).flatten(2).transpose(1, 2)
        return self.attend(tokens, tokens, tokens, need_weights=False)[0]


class Wired(nn.Module):
    """One linear layer over all pixels."""

    def __init__(self):
        super().__init__()
        self.wires = nn.Linear(192, 32)

    def forward(self, x):
        return self.wires(x.flatten(1)).relu()


class Bare(nn.Module):
    """Has nothing to prune."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(x)


def make(source="tests.prune.nets:Tiny", size=8, taps=("out",), spec=None, args=None, classes=4):
    """A network with random weights and statistics, and a head."""
    net = Net({"source": source, "args": args or {}}, Preprocess(size=size)).eval()
    names = [f"class{i}" for i in range(classes)]
    features = sum(tap_widths(net, taps).values())
    apply_edit(net, "set_head", spec=spec or {"kind": "linear"}, features=features, classes=names, taps=list(taps))
    return shaken(net).eval()


@torch.no_grad()
def shaken(net):
    """Give norms weights and statistics that are not all equal."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net


def stripes(n, seed=0, size=8):
    """Noisy stripes in four directions: `(n, 3, size, size)` and labels, learnable in seconds."""
    make_random = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=make_random)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    slopes = torch.stack([row, column, row + column, row - column])
    phase = torch.randint(4, (n, 1, 1), generator=make_random)
    images = ((slopes[labels] + phase) % 4 < 2).float()
    noise = torch.randn(n, 3, size, size, generator=make_random)
    return images[:, None] + 0.6 * noise, labels


def needles(n, seed=0):
    """Noise `(n, 3, 8, 8)` and labels: which of four pixels of the first channel is brightest."""
    images = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return images, images[:, 0, [1, 2, 5, 6], [6, 1, 5, 2]].argmax(1)


def learn(net, images, labels, steps=60, lr=0.01, seed=0, before_step=lambda: None, after_step=lambda _done: None):
    """Train in place, keeping removed weights at zero."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    net.train()
    for step in range(steps):
        rows = torch.randint(len(labels), (64,), generator=order)
        optimizer.zero_grad()
        F.cross_entropy(net(images[rows]), labels[rows]).backward()
        before_step()
        optimizer.step()
        after_step(step + 1)
        net.apply_masks_()
    net.eval()


def without_smallest(net, mask, *, sparsity, scope="global"):
    """Prune by magnitude: what `mask` becomes."""
    return select(by_magnitude(net, mask), mask, sparsity=sparsity, scope=scope)


@torch.no_grad()
def accuracy(net, images, labels):
    return 100 * float((net.eval()(images).argmax(1) == labels).double().mean())


def save(net, folder, name, size):
    """Write what `rebuilt.py` reads."""
    net.eval()
    example = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        tensors = {**net.state_dict(), "expected": net(example), "example": example}
    save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / f"{name}.safetensors")
    told = {"backbone": net.backbone, "edits": net.edits, "classes": net.classes}
    (folder / f"{name}.json").write_text(json.dumps({**told, "preprocess": net.input.to_json()}))
