"""Search the head on features that are computed once."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from effxfer.data.batches import seed_of
from effxfer.data.task import Split, Task
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.net import Net, tap_widths
from effxfer.report import Measurement, Report
from effxfer.search.finalists import SearchResult
from effxfer.search.incumbent import better
from effxfer.search.objective import measure
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
        found = self.net.tapped(x, self.taps)
        return torch.cat([found[name] for name in self.taps], 1)


def search(net: Net, tasks: Sequence[Task], settings: Search, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Replace the head by the best one found, if it is better than what the network came with; the body stays.

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
    check_taps(net, named)
    widths = tap_widths(net, sorted(named))
    tapped = work.once("features", lambda: {n: tap(net, widths, s, device) for n, s in splits(task).items()})
    features = {name: (tapped["train"][name].numpy(), tapped["val"][name].numpy()) for name in widths}
    with TemporaryDirectory() as scratch:
        found = search_head(
            features, (task.train.labels, task.val.labels), len(task.classes), settings=settings,
            storage_dir=work.file("search") or Path(scratch), seed=settings.seed,
        )  # fmt: skip
    kept = remain(net, task, found, settings, device)
    if kept:
        return net, measured(net, task, device) + found.report + kept
    width = sum(widths[name] for name in found.taps)
    net.edit("set_head", spec=found.spec.plain(), features=width, classes=list(task.classes), taps=list(found.taps))
    net.head.load_state_dict(found.state)
    return net, measured(net.to(device.torch), task, device) + found.report


def remain(net: Net, task: Task, found: SearchResult, settings: Search, device: Device) -> Report | None:
    """Say so, if the head that a network came with for these classes stays; None if it does not."""
    if net.classes != task.classes:
        return None
    present = predict(net, task.val.pixels, net.preprocess, device).argmax(1)
    labels = torch.from_numpy(task.val.labels)
    if better(
        found.answers, present, labels, metric=settings.metric, confidence=settings.confidence,
        seed=seed_of(settings.seed, "incumbent") % 2**31,
    ):  # fmt: skip
        return None
    ours, theirs = (100 * measure(one, labels, settings.metric) for one in (present, found.answers))
    row = Measurement(name=f"present head {settings.metric}/val", value=ours, unit="%", n=len(labels))
    text = (
        f"the head stays: the best one found comes to {theirs:.2f} % of the validation split, the present one to "
        f"{ours:.2f} %, and it must be better with {100 * settings.confidence:g} % confidence"
    )
    return Report(rows=(row,), notes=(text,))


def check_taps(net: Net, named: Iterable[str]) -> None:
    """Make sure that every tap is a layer of the body.

    Raises:
        SettingsError: Naming those that are not, with the nearest names.
    """
    layers = ["out", *(name for name, _ in net.body.named_modules() if name)]
    wrong = [f"no layer {name!r}{did_you_mean(name, layers)}" for name in sorted(named) if name not in layers]
    if wrong:
        raise SettingsError(f"taps: {'; '.join(wrong)}", f"layers are: {', '.join(layers[:8])} ...")


def splits(task: Task) -> dict[str, Split]:
    """The splits that a search may see."""
    return {"train": task.train, "val": task.val}


def tap(net: Net, widths: dict[str, int], split: Split, device: Device) -> dict[str, Tensor]:
    """Compute the features of each layer over a split: float32 `(N, D)`."""
    together = predict(Tapped(net, list(widths)), split.pixels, net.preprocess, device)
    return dict(zip(widths, together.split(list(widths.values()), dim=1), strict=True))
