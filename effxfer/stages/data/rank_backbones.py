"""Rank backbones before training: transferability scores of their features against measured latency."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer import model_source, progress
from effxfer.benchmark.protocol.latency import compare, onnx_runner
from effxfer.benchmark.protocol.runners import feed_for
from effxfer.data.checks.enough import require_folds
from effxfer.data.settings import DataSettings
from effxfer.data.task import sample_evenly
from effxfer.net.backbones.pretrained import source_classifier
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings
from effxfer.pareto import pareto_front
from effxfer.process.scratch import scratch_folder
from effxfer.report import Curve, Report, Table
from effxfer.runtime.threads import usable_cores
from effxfer.stages.runner.backbone_names import short_names
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.onnx_timing import export_plain
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.settings.common import Rank
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device, pick_device
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.linear import Features
from effxfer.transferability import SCORES
from effxfer.transferability.leep import leep

TITLE = "Backbones, before any training"
COLUMNS = {
    "linear": "accuracy linear probe %",
    "neighbours": "accuracy neighbours %",
    "logme": "LogME",
    "nleep": "N-LEEP",
    "h_score": "H-score",
}


@dataclass(frozen=True, kw_only=True)
class ScoredBackbone:
    """Scores of a backbone, and its exported file.

    Attributes:
        file: ONNX file of the backbone with a new linear head.
        size: Side of its input images in pixels.
        scores: Scores by name; `leep` only if the backbone's classifier of its source classes is known.
        n: Number of training images that the scores use.
        notes: Notes on its weights.
    """

    file: Path
    size: int
    scores: Mapping[str, float]
    n: int
    notes: tuple[str, ...]


def rank(settings: Rank, data: DataSettings, context: RunContext) -> Report:
    """Score backbones on the training split of a task, and time them in turns; no network is trained.

    Args:
        settings: Backbones, score to sort by, and limits.
        data: Settings of the task; its validation and test splits are not used.
        context: Device and cache; `out` is not used.

    Returns:
        A table, best score first, which marks the Pareto front of score and latency.

    Raises:
        SettingsError: If a backbone does not exist, or is named twice.
        ModelFileError: If its weights do not fit.
        DataError: If the data cannot be loaded, or each class has only one training image (E313).
    """
    device, scored = pick_device(context.device), dict[str, ScoredBackbone]()
    with scratch_folder() as folder:
        with progress.bar("backbones", len(settings.backbones)) as advance:
            for number, (name, backbone) in enumerate(short_names(settings.backbones).items()):
                scored[name] = score_backbone(backbone, settings, data, context, device, folder / f"{number}.onnx")
                advance(1, name)
        table = make_table(scored, settings)
    best = [str(row["backbone"]) for row in table.rows if row["front"]]
    n = next(iter(scored.values())).n
    notes = [f"{name}: {note}" for name, one in scored.items() for note in one.notes]
    notes += [
        f"scores are of {n} training images; the linear probe is judged on folds of them; ordered by {settings.by}",
        f"nothing is both better and faster than: {', '.join(best)}",
    ]
    return Report(tables=(table,), curves=_plot(table, settings.by), notes=tuple(notes))


def score_backbone(
    backbone: BackboneSettings, settings: Rank, data: DataSettings, context: RunContext, device: Device, file: Path
) -> ScoredBackbone:
    """Compute and score a backbone's features, and export it with a new head for the task's classes."""
    if settings.size and not backbone.size:
        backbone = backbone.model_copy(update={"size": settings.size})
    net, notes = model_source.open_model(backbone)
    # A trial run: only here is seen that a backbone cannot take images of this side.
    net.set_input_size(net.input.size)
    task = load_task(data, net.input, context)
    require_folds(task)
    split = sample_evenly(task.train, settings.images, settings.seed)
    net.to(device.torch)
    # Double: scores solve and decompose covariances, which float32 leaves singular.
    features = predict(Features(net), split.rows, net.input, device).double().numpy()
    scores = {name: score(features, split.labels) for name, score in SCORES.items()}
    source = source_probabilities(net, backbone, features)
    if source is not None:
        scores["leep"] = leep(source, split.labels)
    new_head(net, task, settings.seed)
    file = export_plain(net, file, rows=task.val.rows)
    return ScoredBackbone(file=file, size=net.input.size, scores=scores, n=len(split), notes=notes)


@torch.inference_mode()
def source_probabilities(
    net: Net, backbone: BackboneSettings, features: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return a backbone's probabilities of its own source classes `(N, Z)`; None if its classifier is not known."""
    classifier = net.head if net.classes else None
    if classifier is None and model_source.find(backbone.source) is None:
        classifier = source_classifier(backbone, features.shape[1])
    if classifier is None:
        return None
    inputs = torch.from_numpy(features).float()
    probabilities: NDArray[np.float64] = classifier.cpu().eval()(inputs).double().softmax(1).numpy()
    return probabilities


def make_table(scored: Mapping[str, ScoredBackbone], settings: Rank) -> Table:
    """Time the exported files in turns; return a row per backbone, best score first."""
    runners = {
        name: onnx_runner(one.file, feed_for(one.file, seed=settings.seed), settings.threads or usable_cores())
        for name, one in scored.items()
    }
    timed = compare(
        runners, baseline=next(iter(runners)), threads=settings.threads or usable_cores(),
        max_seconds=settings.max_seconds, seed=settings.seed,
    )  # fmt: skip
    ms = {one.name: one.p50 for one in timed}
    # Equal scores: the faster one first.
    order = sorted(scored, key=lambda name: (-scored[name].scores[settings.by], ms[name]))
    points = [(ms[name], scored[name].scores[settings.by]) for name in order]
    front = pareto_front(points, ties=False)
    rows = [
        {
            "backbone": name,
            **{column: scored[name].scores[score] for score, column in COLUMNS.items()},
            "LEEP": scored[name].scores.get("leep"),
            "p50 ms": ms[name],
            "size MB": scored[name].file.stat().st_size / 1e6,
            "side px": scored[name].size,
            "front": "yes" if place in front else "",
        }
        for place, name in enumerate(order)
    ]
    return Table(title=TITLE, rows=tuple(rows))


def _plot(table: Table, by: str) -> tuple[Curve, ...]:
    y, title = COLUMNS[by], "Score against latency"
    front = [(float(row["p50 ms"]), float(row[y])) for row in table.rows if row["front"]]
    dominated = [(float(row["p50 ms"]), float(row[y])) for row in table.rows if not row["front"]]
    series: list[Any] = [("nothing beats these", sorted(front), True), ("others", dominated, False)]
    return tuple(
        Curve(title=title, name=name, x="p50, ms", y=y, points=tuple(points), line=line)
        for name, points, line in series
        if points
    )
