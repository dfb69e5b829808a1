"""Search the head on features that are computed once."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from effxfer.data.batches.batches import seed_of
from effxfer.data.checks.enough import need_folds
from effxfer.data.task import Task
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.early_exit import exits_cleanly, modules_after
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.process.scratch import scratch_folder
from effxfer.report import Measurement, Report
from effxfer.search.finalists import SearchResult
from effxfer.search.head_training import measure
from effxfer.search.incumbent import better
from effxfer.search.storage.backends import check_place
from effxfer.search.study import search_head
from effxfer.stages.head_search.features import Kept, computed, deepest, plan
from effxfer.stages.head_search.head_latency import Stopwatch
from effxfer.stages.settings.common import Search
from effxfer.stages.train.finetune import measured
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.state import Work

MOST_TAPS = 4


def search(net: Net, tasks: Sequence[Task], settings: Search, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Replace the head by the best one found, if it is better than what the network came with.

    The body stays, but for its end where the head does without.

    Args:
        net: Changed in place.
        tasks: The last one is searched on: its training split trains and judges heads, its validation split ranks
            the finalists.
        settings: Which heads, how many trials, how long, how many workers.
        device: Where features are computed; heads are trained on the CPU.
        work: Keeps features and the study.
    """
    began, task = time.monotonic(), tasks[-1]
    check_place(settings.storage)
    need_folds(task)
    net.to(device.torch)
    taps = taps_of(net, settings)
    images = len(task.train) + len(task.val)
    pools = any(pool != "mean" for pool in settings.pools)
    kept = plan(net, taps, images, grid=settings.grid, cache_mb=settings.cache_mb if pools else 0)
    with _folder(work.file("features")) as folder, scratch_folder() as scratch:
        start = time.monotonic()
        features = computed(net, task, kept, folder, device)
        again = (time.monotonic() - start) * (len(task.val) + len(task.test)) / images
        clock = Stopwatch(net, kept, settings, len(task.classes), scratch) if settings.latency else None
        found = search_head(
            features, settings=settings, storage_dir=work.file("search") or scratch / "search",
            seed=settings.seed, clock=clock, until=began + (settings.seconds or float("inf")),
            closing=again,
        )  # fmt: skip
    report = found.report + Report(notes=kept.notes)
    stays = remain(net, task, found, settings, device)
    if stays:
        report += stays
    else:
        put(net, kept, found, task)
    report = measured(net.to(device.torch), task, device) + report
    return net, report + _kept_time(settings, time.monotonic() - began)


def taps_of(net: Net, settings: Search) -> list[str]:
    """List the layers that settings name; else the ends of the body's stages, at most 4 of them, and its output.

    Raises:
        SettingsError: If one is not a layer of the body.
    """
    named = {name for taps in settings.taps for name in taps}
    check_taps(net, named)
    found = list(tap_widths(net, sorted(named)))
    if settings.taps or len(found) <= MOST_TAPS + 1:
        return found
    places = torch.linspace(0, len(found) - 2, MOST_TAPS + 1).round().int().tolist()[1:]
    return [*(found[place] for place in places), found[-1]]


def put(net: Net, kept: Kept, found: SearchResult, task: Task) -> None:
    """Give a network the head that was found, and cut off what the head does not need of the body."""
    whole = found.spec.pool != "mean"
    taps = [kept.whole[tap] if whole else tap for tap in found.taps]
    widths = tap_widths(net, taps)
    channels = [widths[tap] for tap in taps]
    features = channels if found.spec.pools else sum(channels)
    apply_edit(net, "set_head", spec=found.spec.plain(), features=features, classes=list(task.classes), taps=taps)
    net.head.load_state_dict(found.state)
    end = deepest(net, taps)
    gone = modules_after(net, end)
    if exits_cleanly(net, end, gone):
        apply_edit(net, "cut", gone=gone)


def _kept_time(settings: Search, took: float) -> Report:
    """Say how long it took, where that was limited."""
    if settings.seconds is None:
        return Report()
    row = Measurement(name="search seconds", value=took, unit="s")
    if took <= 1.1 * settings.seconds:
        return Report(rows=(row,))
    text = f"it took {took:.0f} s and not {settings.seconds:g}: features, one trial and its timing take that long"
    return Report(rows=(row,), notes=(text,))


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    """Give a place for features: the one to keep them in, or one that is removed."""
    if path:
        yield path
        return
    with scratch_folder() as scratch:
        yield scratch / "features"


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
