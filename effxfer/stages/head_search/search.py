"""Search for a head on cached features of the frozen body."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from effxfer.data.batches.batches import seed_of
from effxfer.data.checks.enough import require_folds
from effxfer.data.task import Task
from effxfer.deploy.export.text_samples import typical_lengths
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.process.scratch import scratch_folder
from effxfer.report import Measurement, Report
from effxfer.search.finalist import SearchResult
from effxfer.search.judging.incumbent import is_better
from effxfer.search.judging.metrics import metric_of, row_score
from effxfer.search.storage.backends import check_backend
from effxfer.search.study import search_head
from effxfer.stages.head_search.features import FeaturePlan, compute_features, deepest_layer, plan_features
from effxfer.stages.head_search.head_latency import HeadLatencyMeter
from effxfer.stages.settings.common import Search
from effxfer.stages.train.finetune import accuracy_report
from effxfer.stages.train.head import answers_task, choose_thresholds, end_body, head_columns
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.state import Work

# Four stages, as ResNet-like bodies have, and the output: every tap costs room on the disk and a timed body.
MAX_TAPS = 4
# Draws of the bootstrap, and how much better a head must be, where a decision is right or wrong. Elsewhere metrics sort
# all examples in every draw (200 take half a minute with 80 labels of 10,000 images), and the rounding of stored maps
# moves them: R squared of a tiny network by 0.1 points.
DRAWS, MARGIN = 1000, 0.0
CONTINUOUS_DRAWS, CONTINUOUS_MARGIN = 200, 0.001


def search(net: Net, tasks: Sequence[Task], settings: Search, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Replace the head by the best one of a search, if it is better than the current one.

    The body is unchanged, except that layers after the deepest one that the new head reads are removed.

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
    require_folds(task)
    if task.output.per == "position":
        problem = f"search judges heads on one vector for each example, the data hold kind {task.output.kind!r}"
        raise SettingsError(problem, "finetune gives such labels a linear head")
    metric_of(task.output, settings.metric)
    net.to(device.torch)
    taps = taps_of(net, settings)
    images = len(task.train) + len(task.val)
    pools = any(pool != "mean" for pool in settings.pools)
    plan = plan_features(net, taps, images, grid=settings.grid, cache_mb=settings.cache_mb if pools else 0)
    with _folder(work.file("features")) as folder, scratch_folder() as scratch:
        start = time.monotonic()
        features = compute_features(net, task, plan, folder, device)
        # The features just computed tell what the final evaluation of as many images
        # takes; cached ones make it about 0.
        evaluation_seconds = (time.monotonic() - start) * (len(task.val) + len(task.test)) / images
        length = next(iter(typical_lengths(task.val.rows)), 0)
        meter = HeadLatencyMeter(net, plan, settings, len(task.classes), scratch, length) if settings.latency else None
        result = search_head(
            features, settings=settings, storage_dir=work.file("search") or scratch / "search",
            seed=settings.seed, meter=meter, until=began + (settings.seconds or float("inf")),
            reserve=evaluation_seconds,
        )  # fmt: skip
    report = result.report + Report(notes=plan.notes)
    rejection = reject_candidate(net, task, result, settings, device)
    if rejection:
        report += rejection
    else:
        replace_head(net, plan, result, task)
        choose_thresholds(net.to(device.torch), task, device)
    report = accuracy_report(net.to(device.torch), task, device) + report
    return net, report + _time_report(settings, time.monotonic() - began)


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


def replace_head(net: Net, plan: FeaturePlan, result: SearchResult, task: Task) -> None:
    """Replace a network's head by the selected one, and remove layers of the body that it does not need."""
    pools = result.spec.pool != "mean"
    taps = [plan.maps[tap] if pools else tap for tap in result.taps]
    widths = tap_widths(net, taps)
    channels = [widths[tap] for tap in taps]
    features = channels if result.spec.pools else sum(channels)
    apply_edit(net, "set_head", spec=result.spec.plain(), features=features, **head_columns(task), taps=taps)
    net.head.load_state_dict(result.state)
    end_body(net, deepest_layer(net, taps))


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


def reject_candidate(net: Net, task: Task, result: SearchResult, settings: Search, device: Device) -> Report | None:
    """Return a report if the existing head is kept, else None."""
    if not answers_task(net, task):
        return None
    metric, labels = metric_of(task.output, settings.metric), task.val.labels
    raw = predict(net, task.val.rows, net.input, device).numpy()
    # Each by the output of its own network, whose standardisation of values may differ.
    candidate = row_score(task.output, result.raw, labels, metric)
    present = row_score(net.output, raw, labels, metric)
    decided = task.output.kind == "single"
    if is_better(
        candidate, present, len(labels), confidence=settings.confidence,
        draws=DRAWS if decided else CONTINUOUS_DRAWS, margin=MARGIN if decided else CONTINUOUS_MARGIN,
        seed=seed_of(settings.seed, "incumbent") % 2**31,
    ):  # fmt: skip
        return None
    rows = np.arange(len(labels))
    row = Measurement(name=f"present head {metric}/val", value=100 * present(rows), unit="%", n=len(labels))
    text = (
        f"kept the current head: best candidate {100 * candidate(rows):.2f} % vs {row.value:.2f} % val {metric}; "
        f"replacing it requires {100 * settings.confidence:g} % confidence"
    )
    return Report(rows=(row,), notes=(text,))


def check_taps(net: Net, named: Iterable[str]) -> None:
    """Check that every tap is a layer of the body.

    Raises:
        SettingsError: If some are not; the message suggests the nearest names.
    """
    layers = ["out", *(name for name, _ in net.body.named_modules() if name)]
    wrong = [f"no layer {name!r}{did_you_mean(name, layers)}" for name in sorted(named) if name not in layers]
    if wrong:
        raise SettingsError(f"taps: {'; '.join(wrong)}", f"layers are: {', '.join(layers[:8])} ...")
