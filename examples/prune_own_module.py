"""Prune a module of your own between two runs of your own training loop, and export the small network.

`python examples/prune_own_module.py` takes about half a minute on one core. The last lines build the small network
again from its weights and a record of its sizes, without pickled code.
"""

import json
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from effxfer.deploy.export.module import export_module
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.graph.sizes import apply_sizes


def digit_net(width: int = 24) -> nn.Module:
    first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(first, second, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)  # a new one: pruning replaces the parameters
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net.train()(images[rows]), labels[rows]).backward()
            optimizer.step()


def accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((net.eval()(images).argmax(1) == labels).float().mean())


def main(folder: Path = Path()) -> dict[str, float]:
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.images).float()[:, None] / 16, torch.tensor(digits.target)
    net = digit_net()
    train(net, images[:1200], labels[:1200], epochs=6)
    before = accuracy(net, images[1200:], labels[1200:])
    result = remove_channels(net, example=images, macs_ratio=0.25)
    train(net, images[:1200], labels[:1200], epochs=3)
    after, macs = accuracy(net, images[1200:], labels[1200:]), result.report["macs/ratio"].value
    print(f"accuracy {before:.1%} before, {after:.1%} with {macs:.0%} of the multiply-adds")
    export_module(net, folder / "small.onnx", images[:32])
    torch.save(net.state_dict(), folder / "small.pt")
    rebuilt = digit_net()
    apply_sizes(rebuilt, json.loads(json.dumps(result.record)))  # plain values: keep them beside the weights
    rebuilt.load_state_dict(torch.load(folder / "small.pt", weights_only=True))
    return {"after": after, "macs": macs, "rebuilt": accuracy(rebuilt, images[1200:], labels[1200:])}


if __name__ == "__main__":
    main()
