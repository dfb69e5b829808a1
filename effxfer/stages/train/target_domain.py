"""What a network does where it is to work, if that is elsewhere than on images like those that it learnt from."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effxfer.data.target import concat_splits
from effxfer.data.task import Split, Task
from effxfer.net.heads.prototypes import Prototypes, prototype_logits
from effxfer.net.heads.spec import Distance
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.model import Model
from effxfer.train.devices import Device
from effxfer.train.episodes import measure_few_shot
from effxfer.train.evaluate import accuracy, predict
from effxfer.transfer.fine_tuning.linear import Features

TARGET = "accuracy/target"
NOTHING = Report(notes=("the target has no test images: nothing is reported on it",))


def at_target(net: Net, task: Task, device: Device) -> Report:
    """Measure a network on the target of a task.

    Args:
        net: Any.
        task: Without a target there is nothing to report.
        device: Where.

    Returns:
        `accuracy/target`, by domain as well if there are several; of new classes, the accuracy of episodes.
    """
    if task.target is None:
        return Report()
    if is_new(task):
        split = concat_splits(task.target)
        features = predict(Features(net), split.pixels, net.preprocess, device)
        return on_new(features, split, distance_of(net))
    if not len(task.target.test):
        return NOTHING
    return by_domain(predict(net, task.target.test.pixels, net.preprocess, device), task.target.test)


def file_at_target(model: Model, task: Task, net: Net) -> Report:
    """Measure an exported file as `at_target` measures its network.

    Args:
        model: Takes images of the network's side.
        task: As in `at_target`.
        net: What was exported.
    """
    if task.target is None:
        return Report()
    if not is_new(task):
        test = task.target.test
        return by_domain(torch.from_numpy(model.logits(test.pixels)), test) if len(test) else NOTHING
    if not model.takes_prototypes:
        return Report(notes=("the file knows its classes and takes no others: nothing to report on new ones",))
    split = concat_splits(task.target)
    return on_new(torch.from_numpy(model.features_of(split.pixels)), split, distance_of(net))


def is_new(task: Task) -> bool:
    """Whether a task has a target, and of new classes."""
    return task.target is not None and task.target.classes != task.classes


def distance_of(net: Net) -> Distance:
    """Name the distance by which a network's features are compared."""
    return net.head.distance if isinstance(net.head, Prototypes) else "euclidean"


def on_new(features: Tensor, split: Split, distance: Distance) -> Report:
    """Measure what features `(N, D)` of new classes are worth."""
    return measure_few_shot(features, split.labels, lambda x, known: prototype_logits(x, known, distance), TARGET)


def by_domain(logits: Tensor, split: Split) -> Report:
    """Give the accuracy of logits `(N, C)` on a target, and on each of its domains."""
    names = sorted(set(split.domains))
    parts = {f"{TARGET}/{name}": np.array(split.domains) == name for name in names if len(names) > 1}
    rows = [accuracy(logits, split.labels, TARGET), *(_part(logits, split.labels, n, p) for n, p in parts.items())]
    return Report(rows=tuple(rows))


def _part(logits: Tensor, labels: NDArray[np.int64], name: str, part: NDArray[np.bool_]) -> Measurement:
    return accuracy(logits[torch.from_numpy(part)], labels[part], name)


def warning(tasks: Sequence[Task], keep: str) -> Report:
    """Say what chose the epoch, where the network is to work elsewhere."""
    if tasks[-1].target is None or keep != "best":
        return Report()
    text = "the epoch kept is the best one on the validation split of the source: the target's labels chose nothing,"
    return Report(notes=(f"{text} and another epoch may do better there; fit.keep = 'last' chooses none",))
