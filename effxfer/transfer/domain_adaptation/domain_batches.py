"""Batches of two domains: labelled examples of a source, and as many of a target without their labels.

Shape legend: B examples of each domain, D features.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.data.batches.augment import Augment, mix_images
from effxfer.data.batches.batches import AS_THEY_ARE, Batches, balanced_order, make_views
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Split, Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.text.tokens import Tokens

# Inputs and labels of the source, inputs of the target, and the rows of both.
DomainBatch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Statistics = Literal["joint", "separate"]
Views = Callable[[Tensor, Generator], Tensor]


def draw_domains(
    tasks: Sequence[Task], size: int, settings: Augment, device: torch.device, balance: float = 0.0
) -> Callable[[int], Batches]:
    """Return a function from an epoch's seed to batches of two domains; an epoch is a pass over the source.

    Args:
        tasks: Tasks of the stage; the last one has examples of the target as `unlabelled`.
        size: B.
        settings: Augmentation of images.
        device: Where the batches go.
        balance: As for `draw_balanced`.

    Raises:
        SettingsError: If there is no target, or augmentation is set for examples that are no images.
    """
    task = tasks[-1]
    target = require_target(task)
    labels, count = torch.tensor(task.train.labels), len(target)
    source_views, target_views = (_views(split, task, settings, device) for split in (task.train, target))

    def make(index: Tensor, rng: Generator) -> DomainBatch:
        inputs, targets = source_views(index, rng), labels[index].to(device)
        inputs, targets = mix_images(inputs, targets, len(task.classes), settings, rng)
        rows = torch.randint(count, (len(index),), generator=rng)
        inputs, target_inputs = _of_one_length(inputs, target_views(rows, rng), task.input)
        return inputs, targets, target_inputs, index.to(device), rows.to(device)

    order = balanced_order(labels, balance)
    return lambda seed: Batches(len(labels), size, make, seed, order)


def require_target(task: Task) -> Split:
    """Return the examples of the target domain, whose labels are -1.

    Raises:
        SettingsError: If the task has none.
    """
    if task.unlabelled is None:
        text = f"domain adaptation needs {task.input.unit} of another domain of the same classes"
        if task.target is not None:
            text = f"{text}, and only new classes of {task.target.name} are used"
            raise SettingsError(text, "pass `data.target_classes=same`, or name another target")
        raise SettingsError(text, "name them with data.target, or data.unlabelled")
    return task.unlabelled


def target_batches(net: Net, task: Task, size: int, limit: int) -> Iterator[Tensor]:
    """Yield inputs of the target in batches of equal size, evenly spaced over its rows.

    Args:
        net: The network that will take them.
        task: See `require_target`.
        size: Examples per batch, at least 2.
        limit: Largest number of examples.
    """
    rows = require_target(task).rows
    device = next(net.parameters()).device
    chosen = torch.linspace(0, len(rows) - 1, min(len(rows), limit)).round().long().numpy()
    size = min(len(chosen), max(2, size))
    for start in range(0, len(chosen) - size + 1, size):
        yield input_tensor(rows[chosen[start : start + size]], net.input, device)


def domain_features(net: Net, inputs: Tensor, target_inputs: Tensor, statistics: Statistics) -> tuple[Tensor, Tensor]:
    """Return the features `(B, D)` of both domains.

    Args:
        net: In training mode.
        inputs: Of the source.
        target_inputs: Of the target.
        statistics: `joint`: BatchNorm normalises both domains by the same numbers, as evaluation will. `separate`: each
            by its own, and the running statistics become the target's.
    """
    if statistics == "joint":
        source, target = net.features(torch.cat([inputs, target_inputs])).split([len(inputs), len(target_inputs)])
        return source, target
    with frozen_statistics(net):
        source = net.features(inputs)
    # The target last and unfrozen: its statistics are what stays.
    return source, net.features(target_inputs)


@contextmanager
def frozen_statistics(net: Net) -> Iterator[None]:
    """Keep BatchNorm's running statistics unchanged in the block."""
    norms = [(m, m.momentum) for m in net.body.modules() if isinstance(m, _BatchNorm)]
    for norm, _ in norms:
        # Not evaluation mode: the batch is still normalised by itself, only the running numbers stay.
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum


def _of_one_length(source: Tensor, target: Tensor, input: Input) -> tuple[Tensor, Tensor]:
    """Pad the ids of texts of both domains to the same length, so that they can be one batch."""
    if not isinstance(input, Tokens):
        return source, target
    longest = max(source.shape[1], target.shape[1])
    first, second = (F.pad(ids, (0, longest - ids.shape[1]), value=input.pad) for ids in (source, target))
    return first, second


def _views(split: Split, task: Task, settings: Augment, device: torch.device) -> Views:
    if isinstance(task.input, Preprocess):
        return make_views(split, task.input, settings, device)
    if settings not in (Augment(), AS_THEY_ARE):
        raise SettingsError(f"augment has no effect on {task.input.unit}", "leave it out")
    rows: Any = split.rows
    return lambda index, _rng: input_tensor(rows[index.numpy()], task.input, device)
