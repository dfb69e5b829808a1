"""Learning curves: accuracy by labels per class and by epoch."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task, subset
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Curve, Measurement, Report, Table, extent
from effxfer.stages.settings.common import LearningCurve
from effxfer.stages.train.finetune import adapt, finetune
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.state import Work
from effxfer.transfer.strategies import make_strategy

LABELS = "Accuracy by labels per class"
EPOCHS = "Validation accuracy by labels per class"
UNIT = "accuracy, %"


def curve(
    net: Net, tasks: Sequence[Task], settings: LearningCurve, *, device: Device, work: Work
) -> tuple[Net, Report]:  # fmt: skip
    """Fine-tune a network on the last of `tasks` with growing numbers of labels, and finally with all.

    Args:
        net: Network, changed in place; ends as the network fine-tuned on all labels.
        tasks: See `finetune`.
        settings: Numbers of labels, repeats and training settings.
        device: Device of the training.
        work: Saves every finished training run for resuming.
    """
    if tasks[-1].output.kind != "single":
        text = f"a learning curve counts labels per class, the data hold labels of kind {tasks[-1].output.kind!r}"
        raise SettingsError(text, "use finetune")
    if settings.size:
        net.set_input_size(settings.size)
    least = int(np.bincount(tasks[-1].train.labels).min())
    # A run needs as many of every class; with all of the smallest class it is nearly the last run.
    numbers = [number for number in settings.labels if number < least]

    units = [
        (f"labels-{number}-{repeat}", partial(train_on_few, net, tasks, number, repeat, settings, device, work))
        for number in numbers
        for repeat in range(settings.repeats)
    ]
    work.prepare(units)
    runs = [work.once(name, train_point) for name, train_point in units]
    trained, report = finetune(net, tasks, settings, device=device, work=work.part("all"))
    per_class = len(tasks[-1].train) / len(tasks[-1].classes)
    return trained, report + curve_report(runs, report, per_class, settings, least)


def train_on_few(
    net: Net, tasks: Sequence[Task], number: int, repeat: int, settings: LearningCurve, device: Device, work: Work
) -> dict[str, Any]:
    """Train a copy on `number` labels per class; within a repeat, smaller subsets are nested in larger ones."""
    task = select_few(tasks[-1], number, seed_of(settings.seed, "labels", repeat))
    batch = make_strategy(settings.strategy, settings.options).batch
    # Rounded up twice: batches of an epoch, and epochs.
    epochs = max(settings.fit.epochs, -(-settings.min_steps // max(-(-len(task.train) // batch), 1)))
    fit = settings.fit.model_copy(update={"epochs": epochs})
    # The seed is repeat's, not number's: within a repeat only the labels differ.
    copy, changed = deepcopy(net), settings.model_copy(update={"fit": fit, "seed": settings.seed + repeat})
    label = f"{number} label{'s' * (number > 1)} per class, {repeat + 1} of {settings.repeats}"
    among = [*tasks[:-1], task]
    history, _notes = adapt(copy, among, changed, device=device, work=work.part(f"{number}-{repeat}"), label=label)
    splits = task.reported_splits.items()
    scores = {name: score(copy, split, device) for name, split in splits}
    passes = [(row["epoch"], row["score"]) for row in history if "score" in row]
    return {"labels": number, "repeat": repeat, **scores, "epochs": len(history), "passes": passes}


def select_few(task: Task, number: int, seed: int) -> Task:
    """Select `number` training images per class; with the same seed, smaller subsets are nested in larger ones."""
    order = np.random.default_rng(seed).permutation(len(task.train))
    labels = task.train.labels[order]
    chosen = np.sort(np.concatenate([order[labels == label][:number] for label in range(len(task.classes))]))
    return replace(task, train=subset(task.train, chosen))


def curve_report(
    runs: Sequence[Mapping[str, Any]], full_report: Report, per_class: float, settings: LearningCurve, least: int
) -> Report:  # fmt: skip
    """Report the training runs on few labels next to the run on all labels."""
    numbers = sorted({run["labels"] for run in runs})
    rows = [curve_row(str(number), [run for run in runs if run["labels"] == number]) for number in numbers]
    ends = {name: value for name in ("val", "test") if (value := full_report.get(f"accuracy/{name}")) is not None}
    full = {"labels": 0, "epochs": int(full_report.get("epochs") or 0), **ends}
    rows.append(curve_row(f"all ({per_class:.4g})", [full]))
    ordered = sorted(runs, key=lambda run: (run["labels"], run["repeat"]))
    curves = [
        Curve(
            title=LABELS,
            name=name,
            x="labels per class",
            y=UNIT,
            points=(*points(ordered, name), (per_class, end)),
            line=False,
        )
        for name, end in ends.items()
    ] + [
        Curve(
            title=EPOCHS, name=f"{run['labels']} per class", x="epoch", y=UNIT, points=tuple(map(tuple, run["passes"]))
        )
        for run in ordered
        if not run["repeat"] and run["passes"]
    ]
    skipped = [str(number) for number in settings.labels if number >= least]
    note = f"skipped {', '.join(skipped)} labels per class: the smallest class has {least} training images"
    notes = (note,) if skipped else ()
    return Report(tables=(Table(title=LABELS, rows=tuple(rows)),), curves=tuple(curves), notes=notes)


def points(runs: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """Return (labels per class, accuracy) of every training run."""
    return [(run["labels"], run[name]) for run in runs]


def curve_row(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the repeats of one number of labels as a row."""
    spreads = {
        split: Measurement.spread(split, [run[split] for run in runs]) for split in ("val", "test") if split in runs[0]
    }
    return {
        "labels per class": name,
        **{f"accuracy {split} %": spread.value for split, spread in spreads.items()},
        **{f"{split} range": f"{spread.low:.2f} to {spread.high:.2f}" for split, spread in spreads.items()},
        "repeats": len(runs),
        "epochs": extent(run["epochs"] for run in runs),
    }
