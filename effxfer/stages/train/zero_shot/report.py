"""Report on new classes that are known by their class embeddings: alone, and beside the known ones.

Shape legend: N examples, K known classes, C known and new classes.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from effxfer.data.target import concat_splits
from effxfer.data.task import Split, Task
from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.runtime.model import Model
from effxfer.stages.train.zero_shot.frozen_features import compare
from effxfer.stages.train.zero_shot.generalized import Scored, harmonic_mean, per_class_accuracy
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.linear import Features

TITLE = "Known and new classes side by side"
Logits = Callable[[Split], NDArray[np.float32]]


def compares_classes(net: Net, task: Task) -> bool:
    """Whether a network can tell a target's new classes by their class embeddings."""
    target = task.target
    described = task.class_embeddings is not None and target is not None and target.class_embeddings is not None
    return described and isinstance(net.head, Compare) and net.head.table.shape[1] == _joint(task).shape[1]


def evaluate_new_classes(net: Net, task: Task, device: Device) -> Report:
    """Evaluate a network on the new classes of a task's target; see `measure_new_classes`."""

    def logits(split: Split) -> NDArray[np.float32]:
        features = predict(Features(net), split.rows, net.input, device).numpy()
        return compare(net, features, _joint(task))

    return measure_new_classes(task, logits, _constant_of(net), net.input.unit)


def evaluate_file_on_new_classes(model: Model, task: Task, net: Net) -> Report:
    """Evaluate an exported file that takes other classes, like `evaluate_new_classes` for its network."""
    assert task.target is not None
    labels = (*task.classes, *task.target.classes)
    changed = model.with_classes(_joint(task), labels, calibration=0.0)
    report = measure_new_classes(task, lambda split: changed.logits(split.rows), _constant_of(net), net.input.unit)
    # The network's own report shows the curve.
    return Report(rows=report.rows)


def measure_new_classes(task: Task, logits_of: Logits, constant: float, unit: str) -> Report:
    """Measure accuracies on the examples of new classes, and on those of known ones beside them.

    Args:
        task: Task with class embeddings and a target of new classes.
        logits_of: Function from a split to logits of known and new classes, `(N, C)`.
        constant: What known classes are lowered by.
        unit: What examples are.

    Returns:
        `accuracy/target`, among new classes alone; `generalized/unseen`, `generalized/seen` and `generalized/harmonic
        mean` among all, with the constant and, as `uncalibrated`, without; `generalized/area` under their curve. All
        are means over classes. Known classes are those of the test split, or without one of the validation split.
    """
    assert task.target is not None
    new, old = concat_splits(task.target), task.test if len(task.test) else task.val
    known_count = len(task.classes)
    scored = Scored(
        seen_logits=logits_of(old), seen_labels=old.labels, unseen_logits=logits_of(new),
        unseen_labels=new.labels + known_count, known_count=known_count,
    )  # fmt: skip
    of, count = f"{unit}, all classes alike", len(new)
    among_new = per_class_accuracy(scored.unseen_logits[:, known_count:], new.labels)
    counts = {"unseen": count, "seen": len(old), "harmonic mean": count + len(old), "area": count + len(old)}
    calibrated, plain = _side_by_side(scored, constant), _side_by_side(scored, 0.0)
    figures = calibrated | {f"{name} uncalibrated": value for name, value in plain.items()} | {"area": scored.area()}
    rows = (
        Measurement(name="accuracy/target", value=among_new, unit="%", n=count, of=of),
        *(
            Measurement(
                name=f"generalized/{name}", value=value, unit="%", n=counts[name.removesuffix(" uncalibrated")], of=of
            )
            for name, value in figures.items()
        ),
    )
    lines = [_line(constant, calibrated), _line(0.0, plain)]
    points = tuple(scored.curve())
    curve = Curve(title=TITLE, name="calibrated stacking", x="new classes, %", y="known classes, %", points=points)
    return Report(rows=rows, tables=(Table(title=TITLE, rows=tuple(lines)),), curves=(curve,))


def _side_by_side(scored: Scored, constant: float) -> dict[str, float]:
    """Return accuracies of new and known classes and their harmonic mean, in percent."""
    unseen, seen_share = scored.accuracies(constant)
    return {"unseen": unseen, "seen": seen_share, "harmonic mean": harmonic_mean(unseen, seen_share)}


def _line(constant: float, figures: Mapping[str, float]) -> dict[str, float]:
    return {"calibration": constant, **{f"{name} %": value for name, value in figures.items()}}


def overlap_note(net: Net, task: Task) -> Report:
    """Warn where new classes are among those that a network answered before it was given this task.

    Xian et al., 2017, https://arxiv.org/abs/1707.00600: a backbone that was trained on a class does not know it by its
    embedding alone.
    """
    target = task.target
    if target is None or target.classes == task.classes:
        return Report()
    learnt = {name.casefold() for name in net.classes}
    both = [name for name in target.classes if name.casefold() in learnt]
    if both:
        text = f"the network was trained on {len(both)} of the new classes before, such as {both[0]!r}"
        return Report(notes=(text,))
    if net.backbone.get("source", "").partition(":")[0] in ("timm", "torchvision"):
        return Report(notes=("the backbone's own pretraining may have had examples of the new classes",))
    return Report()


def _constant_of(net: Net) -> float:
    assert isinstance(net.head, Compare)
    return float(net.head.calibration)


def _joint(task: Task) -> NDArray[np.float32]:
    assert task.target is not None
    assert task.class_embeddings is not None
    assert task.target.class_embeddings is not None
    return np.concatenate([task.class_embeddings, task.target.class_embeddings])
