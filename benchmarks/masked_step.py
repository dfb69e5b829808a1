"""A training step that keeps a ticket's zeros at zero, against the same step of the dense network, in turns."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.timing import row

NETWORK, SIDE, BATCH, SPARSITY = "effxfer.net.cifar:resnet20", 32, 64, 0.9
ROUNDS, STEPS = 10, 2


def measure(_folder: Path) -> dict[str, Any]:
    dense, masked = Stepped(0.0), Stepped(SPARSITY)
    for one in (dense, masked):
        one.seconds()
    pairs = [(masked.seconds(), dense.seconds()) for _ in range(ROUNDS)]
    ours, theirs = ([1e3 * seconds for seconds in side] for side in zip(*pairs, strict=True))
    what = f"masked step, ResNet-20, {BATCH} images of {SIDE} px, {SPARSITY:.0%} zeros"
    return row(what, ours, "dense step", theirs, "ms", "at most 1.05", paired=True)


class Stepped:
    """A network that is trained on the same batch for ever, as `fit` does it; with a random mask if `sparsity` > 0."""

    def __init__(self, sparsity: float) -> None:
        from effxfer.net.edits import apply_edit
        from effxfer.net.net import Net
        from effxfer.prune.weights.mask import Mask
        from effxfer.runtime.images.preprocess import Preprocess

        torch.manual_seed(0)
        self.net = Net({"source": NETWORK, "args": {}}, Preprocess(size=SIDE)).to(memory_format=torch.channels_last)
        apply_edit(self.net, "set_head", spec={"kind": "linear"}, features=64, classes=[str(i) for i in range(10)])
        if sparsity:
            full = Mask.full(self.net).keep
            Mask({name: torch.rand(keep.shape) >= sparsity for name, keep in full.items()}).store_(self.net)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), 1e-3)
        self.images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (BATCH,))
        self.net.train()

    def seconds(self) -> float:
        """Time one step: the mean of a block of them."""
        began = time.perf_counter()
        for _ in range(STEPS):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.net(self.images), self.labels).backward()
            self.optimizer.step()
            self.net.apply_masks_()
        return (time.perf_counter() - began) / STEPS
