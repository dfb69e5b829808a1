"""Search for a head on cached features of the frozen body."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from effxfer.data.task import Task
from effxfer.deploy.export.text_samples import typical_lengths
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.process.scratch import scratch_folder
from effxfer.report import Measurement, Report
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.search.finalists import Finals
from effxfer.search.space import tap_choices
from effxfer.search.storage.backends import check_backend
from effxfer.search.study import search_finalists
from effxfer.search.together import select_together
from effxfer.stages.head_search.conclude import conclude_task, conclude_tasks
from effxfer.stages.head_search.features import FeaturePlan, compute_features, plan_features
from effxfer.stages.head_search.head_latency import HeadLatencyMeter
from effxfer.stages.head_search.replacing import require_own_heads
from effxfer.stages.head_search.searched_tasks import SearchedTask, searched_tasks
from effxfer.stages.head_search.task_latency import FileTiming, TaskMeter, require_reachable
from effxfer.stages.settings.common import Search
from effxfer.train.devices import Device
from effxfer.train.state import Work

# Four stages, as ResNet-like bodies have, and the output: every tap costs room on the disk and a timed body.
MAX_TAPS = 4


def search(net: Net, tasks: Sequence[Task], settings: Search, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Replace the head by the best one of a search, if it is better than the current one.

    The body is unchanged, except that layers after the deepest one that a head reads are removed. Of several tasks
    each has a search of its own, on the same features.

    Args:
        net: Network, changed in place.
        tasks: The training split of the last task trains and scores heads; its validation split ranks the finalists.
        settings: Search space, number of trials, time limit and workers.
        device: Device that computes the features; heads are trained on the CPU.
        work: Stores features and the study.
    """
    began, task = time.monotonic(), tasks[-1]
    # Before features are computed, which takes minutes: is the server there?
    check_backend(settings.storage)
    searched = searched_tasks(net, task, settings.metric)
    require_own_heads(net, task)
    require_reachable(settings, len(searched))
    net.to(device.torch)
    taps = taps_of(net, settings)
    pools = any(pool != "mean" for pool in settings.pools)
    images = len(task.train) + len(task.val)
    plan = plan_features(net, taps, images, grid=settings.grid, cache_mb=settings.cache_mb if pools else 0)
    until = began + (settings.seconds or float("inf"))
    with _folder(work.file("features")) as folder, scratch_folder() as scratch:
        start = time.monotonic()
        arrays = compute_features(net, task, plan, folder, device)
        # The features just computed tell what the final evaluation of as many images
        # takes; cached ones make it about 0.
        evaluation_seconds = (time.monotonic() - start) * (len(task.val) + len(task.test)) / images
        has_tasks = isinstance(task.output, TaskOutputs)
        reserve = evaluation_seconds * (2 if has_tasks else 1)
        reserve += FileTiming.seconds if has_tasks and settings.latency else 0.0
        meter = _meter(net, task, searched, plan, settings, scratch)
        plain_taps = tap_choices(settings, plan.taps)[0]
        finals = list[Finals]()
        for number, each in enumerate(searched):
            now, remaining = time.monotonic(), len(searched) - number
            finals.append(search_finalists(
                arrays.label(each), settings=settings.model_copy(update={"metric": each.metric}),
                storage_dir=(work.file("search") or scratch / "search") / (f"task-{number}" if has_tasks else ""),
                seed=settings.seed, meter=TaskMeter(meter=meter, task=number, plain_taps=plain_taps) if meter else None,
                until=now + (until - reserve - now) / remaining + reserve, reserve=reserve,
                label=f"head search: {each.name}" if has_tasks else "head search",
            ))  # fmt: skip
        # Within: their outputs are computed from the features in the folder.
        results = select_together(finals, settings.max_latency_ratio)
    conclude = conclude_tasks if has_tasks else conclude_task
    report = conclude(net, task, plan, searched, results, settings, device)
    return net, report + _time_report(settings, time.monotonic() - began)


def _meter(
    net: Net, task: Task, searched: Sequence[SearchedTask], plan: FeaturePlan, settings: Search, folder: Path
) -> HeadLatencyMeter | None:
    """Return what times the bodies and heads of all tasks; None if latency is ignored."""
    if not settings.latency:
        return None
    length = next(iter(typical_lengths(task.val.rows)), 0)
    return HeadLatencyMeter(net, plan, settings, [each.output.width for each in searched], folder, length)


def taps_of(net: Net, settings: Search) -> list[str]:
    """List the layers that the settings name; by default up to 4 stage ends of the body, and its output.

    Raises:
        SettingsError: If the body has no layer of that name.
    """
    named = {name for taps in settings.taps for name in taps}
    check_taps(net, named)
    layers = list(tap_widths(net, sorted(named)))
    if settings.taps or len(layers) <= MAX_TAPS + 1:
        return layers
    # Evenly by depth, without the very first, whose features are edges; the last of the stages always.
    places = torch.linspace(0, len(layers) - 2, MAX_TAPS + 1).round().int().tolist()[1:]
    return [*(layers[place] for place in places), layers[-1]]


def _time_report(settings: Search, seconds: float) -> Report:
    """Report the duration of a search with a time limit."""
    if settings.seconds is None:
        return Report()
    row = Measurement(name="search seconds", value=seconds, unit="s")
    # A trial and a timing cannot be cut short: up to 10 % over is kept silent.
    if seconds <= 1.1 * settings.seconds:
        return Report(rows=(row,))
    text = f"it took {seconds:.0f} s and not {settings.seconds:g}: features, one trial and its timing take that long"
    return Report(rows=(row,), notes=(text,))


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    """Yield a folder for features: `path`, or a scratch folder that is removed afterwards."""
    if path:
        yield path
        return
    with scratch_folder() as scratch:
        yield scratch / "features"


def check_taps(net: Net, named: Iterable[str]) -> None:
    """Check that every tap is a layer of the body.

    Raises:
        SettingsError: If some are not; the message suggests the nearest names.
    """
    layers = ["out", *(name for name, _ in net.body.named_modules() if name)]
    wrong = [f"no layer {name!r}{did_you_mean(name, layers)}" for name in sorted(named) if name not in layers]
    if wrong:
        raise SettingsError(f"taps: {'; '.join(wrong)}", f"layers are: {', '.join(layers[:8])} ...")
