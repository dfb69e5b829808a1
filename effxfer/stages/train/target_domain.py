"""Evaluate a network on its target domain."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from effxfer.data.target import concat_splits, is_new
from effxfer.data.task import Split, Task
from effxfer.net.heads.prototypes import Prototypes, prototype_logits
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.stages.train.zero_shot.report import (
    compares_classes,
    evaluate_file_on_new_classes,
    evaluate_new_classes,
)
from effxfer.train.devices import Device
from effxfer.train.episodes import Near, measure_few_shot
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.linear import Features

TARGET = "target"
NOTHING = Report(notes=("the target has no test images: nothing is reported on it",))


def evaluate_target(net: Net, task: Task, device: Device) -> Report:
    """Evaluate a network on the target of a task.

    Args:
        net: The network.
        task: Task; without a target the report is empty.
        device: Device of the evaluation.

    Returns:
        `accuracy/target`, also by domain if there are several; for new classes, few-shot accuracy over episodes.
    """
    if task.target is None:
        return Report()
    if is_new(task) and compares_classes(net, task):
        return evaluate_new_classes(net, task, device)
    if is_new(task):
        split = concat_splits(task.target)
        return measure_new_classes(compared_features(net, split, device), split, comparison_of(net))
    if not len(task.target.test):
        return NOTHING
    logits = predict(net, task.target.test.rows, net.input, device)
    return accuracy_by_domain(logits, task.target.test, net.input.unit)


def evaluate_file_on_target(model: Model, task: Task, net: Net) -> Report:
    """Evaluate an exported file on the target of a task, like `evaluate_target` for its network.

    Args:
        model: Exported file with the network's input side.
        task: Task; without a target the report is empty.
        net: The exported network.
    """
    if task.target is None:
        return Report()
    if not is_new(task):
        test = task.target.test
        return (
            accuracy_by_domain(torch.from_numpy(model.logits(test.rows)), test, net.input.unit)
            if len(test)
            else NOTHING
        )
    if compares_classes(net, task):
        return evaluate_file_on_new_classes(model, task, net)
    if not model.takes_prototypes:
        return Report(notes=("the file has fixed classes, so that new classes cannot be evaluated",))
    split = concat_splits(task.target)
    return measure_new_classes(torch.from_numpy(model.features_of(split.rows)), split, comparison_of(net))


@torch.no_grad()
def compared_features(net: Net, split: Split, device: Device) -> Tensor:
    """Compute what a network's head compares of each example, `(N, D)`, on the CPU."""
    features = predict(Features(net), split.rows, net.input, device)
    return deepcopy(net.head).cpu().transform(features) if isinstance(net.head, Prototypes) else features


def comparison_of(net: Net) -> Near:
    """Return the function from features `(B, D)` and prototypes `(C, D)` to logits, without a gradient."""
    if not isinstance(net.head, Prototypes):
        return prototype_logits
    near: Near = torch.no_grad()(deepcopy(net.head).cpu().compare)
    return near


def measure_new_classes(features: Tensor, split: Split, near: Near) -> Report:
    """Evaluate few-shot accuracy of features `(N, D)` of new classes."""
    return measure_few_shot(features, split.labels, near, f"accuracy/{TARGET}")


def accuracy_by_domain(logits: Tensor, split: Split, of: str = "images") -> Report:
    """Return the accuracy of logits `(N, C)` on a target, and on each of its domains."""
    names = sorted(set(split.domains))
    parts = {f"{TARGET}/{name}": np.array(split.domains) == name for name in names if len(names) > 1}
    raw, every = logits.numpy(), {TARGET: np.ones(len(split), np.bool_), **parts}
    scores = {name: SingleLabel().score(raw[part], split.labels[part], of) for name, part in every.items()}
    return Report(rows=tuple(Measurement.from_score(name, each) for name, each in scores.items()))


def selection_note(tasks: Sequence[Task], keep: str, validator: str = "source") -> Report:
    """Note that the best epoch was selected on source data, if there is a target and no validator of its own."""
    if tasks[-1].target is None or keep != "best" or validator != "source":
        return Report()
    text = "the best epoch was selected on the source's validation split, without the target's labels;"
    # A validator compares the same classes.
    advice = "" if is_new(tasks[-1]) else "; options.validator looks at it, too"
    return Report(notes=(f"{text} another epoch may be better on the target{advice}",))
