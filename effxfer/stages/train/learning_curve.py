"""How quickly a network adapts: its accuracy by labels per class, and by epochs."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task, subset
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
    """Adapt a network to the last of `tasks` again and again, with more and more labels, and at last with all.

    Args:
        net: Becomes what `finetune` makes of it with all labels.
        tasks: As in `finetune`.
        settings: Which numbers of labels, how often, and how to train.
        device: Where.
        work: Keeps every finished training.
    """
    if settings.size:
        net.set_input_size(settings.size)
    least = int(np.bincount(tasks[-1].train.labels).min())
    numbers = [number for number in settings.labels if number < least]

    def known(number: int, repeat: int) -> dict[str, Any]:
        return work.once(
            f"labels-{number}-{repeat}", lambda: adapted(net, tasks, number, repeat, settings, device, work)
        )

    runs = [known(number, repeat) for number in numbers for repeat in range(settings.repeats)]
    made, report = finetune(net, tasks, settings, device=device, work=work.at("all"))
    return made, report + compared(runs, report, len(tasks[-1].train) / len(tasks[-1].classes), settings, least)


def adapted(
    net: Net, tasks: Sequence[Task], number: int, repeat: int, settings: LearningCurve, device: Device, work: Work
) -> dict[str, Any]:
    """Train a copy on `number` labels per class; which ones depends on the repeat, and fewer are among more."""
    task = few(tasks[-1], number, seed_of(settings.seed, "labels", repeat))
    batch = make_strategy(settings.strategy, settings.options).batch
    epochs = max(settings.fit.epochs, -(-settings.min_steps // max(-(-len(task.train) // batch), 1)))
    fit = settings.fit.model_copy(update={"epochs": epochs})
    copy, own = deepcopy(net), settings.model_copy(update={"fit": fit, "seed": settings.seed + repeat})
    label = f"{number} label{'s' * (number > 1)} per class, {repeat + 1} of {settings.repeats}"
    among = [*tasks[:-1], task]
    history, _about = adapt(copy, among, own, device=device, work=work.at(f"{number}-{repeat}"), label=label)
    splits = task.reported.items()
    scores = {name: score(copy, split, copy.preprocess, device, name).value for name, split in splits}
    passes = [(row["epoch"], row["score"]) for row in history if "score" in row]
    return {"labels": number, "repeat": repeat, **scores, "epochs": len(history), "passes": passes}


def few(task: Task, number: int, seed: int) -> Task:
    """Keep `number` training images of each class; with the same seed, fewer are among more."""
    order = np.random.default_rng(seed % 2**63).permutation(len(task.train))
    labels = task.train.labels[order]
    chosen = np.sort(np.concatenate([order[labels == label][:number] for label in range(len(task.classes))]))
    return replace(task, train=subset(task.train, chosen))


def compared(
    runs: Sequence[Mapping[str, Any]], whole: Report, per_class: float, settings: LearningCurve, least: int
) -> Report:  # fmt: skip
    """Put trainings on few labels beside the one on all."""
    numbers = sorted({run["labels"] for run in runs})
    rows = [line(str(number), [run for run in runs if run["labels"] == number]) for number in numbers]
    ends = {name: value for name in ("val", "test") if (value := whole.get(f"accuracy/{name}")) is not None}
    full = {"labels": 0, "epochs": int(whole.get("epochs") or 0), **ends}
    rows.append(line(f"all ({per_class:.4g})", [full]))
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
    left = [str(number) for number in settings.labels if number >= least]
    notes = (f"no training on {', '.join(left)} labels per class: the smallest class has {least}",) if left else ()
    return Report(tables=(Table(title=LABELS, rows=tuple(rows)),), curves=tuple(curves), notes=notes)


def points(runs: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """Give the accuracy of every training over its labels per class."""
    return [(run["labels"], run[name]) for run in runs]


def line(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the repeats of one number of labels."""
    told = {
        split: Measurement.spread(split, [run[split] for run in runs]) for split in ("val", "test") if split in runs[0]
    }
    return {
        "labels per class": name,
        **{f"accuracy {split} %": one.value for split, one in told.items()},
        **{f"{split} range": f"{one.low:.2f} to {one.high:.2f}" for split, one in told.items()},
        "repeats": len(runs),
        "epochs": extent(run["epochs"] for run in runs),
    }
