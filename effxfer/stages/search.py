"""Search the head on features that are computed once."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from effxfer.data.task import Split, Task
from effxfer.net.net import Net, tap_widths
from effxfer.report import Report
from effxfer.search.study import search_head
from effxfer.stages.finetune import measured
from effxfer.stages.settings import Search
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.state import Work


class Tapped(nn.Module):
    """The pooled outputs of several layers, side by side: `(B, 3, S, S)` to `(B, sum of widths)`."""

    def __init__(self, net: Net, taps: Sequence[str]) -> None:
        super().__init__()
        self.net, self.taps = net, tuple(taps)

    def forward(self, x: Tensor) -> Tensor:
        """Run the body once."""
        import torch

        found = self.net.tapped(x, self.taps)
        return torch.cat([found[name] for name in self.taps], 1)


def search(net: Net, tasks: Sequence[Task], settings: Search, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Replace the head by the best one found; the body stays as it is.

    Args:
        net: Changed in place.
        tasks: The last one is searched on: its training split trains and judges heads, its validation split ranks
            the finalists.
        settings: Which heads, how many trials, how many workers.
        device: Where features are computed; heads are trained on the CPU.
        work: Keeps the study.
    """
    task = tasks[-1]
    net.to(device.torch)
    named = {name for taps in settings.taps for name in taps}
    widths = tap_widths(net, sorted(named))
    features = {
        name: (train, val)
        for (name, train), val in zip(
            tap(net, widths, task.train, device).items(), tap(net, widths, task.val, device).values(), strict=True
        )
    }
    with TemporaryDirectory() as scratch:
        found = search_head(
            features, (task.train.labels, task.val.labels), len(task.classes), settings=settings,
            storage_dir=work.file("search") or Path(scratch), seed=settings.seed,
        )  # fmt: skip
    width = sum(widths[name] for name in found.taps)
    net.edit("set_head", spec=found.spec.plain(), features=width, classes=list(task.classes), taps=list(found.taps))
    net.head.load_state_dict(found.state)
    return net, measured(net.to(device.torch), task, device) + found.report


def tap(net: Net, widths: dict[str, int], split: Split, device: Device) -> dict[str, NDArray[np.float32]]:
    """Compute the features of each layer over a split: float32 `(N, D)`."""
    together = predict(Tapped(net, list(widths)), split.pixels, net.preprocess, device).numpy()
    ends = np.cumsum(list(widths.values()))[:-1]
    return dict(zip(widths, np.split(together, ends, axis=1), strict=True))
