"""The trained module of strategies that learn tasks one after another, and its classes.

Shape legend: B examples, C columns of the head.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from effxfer.data.continual.exemplars import Exemplars
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.regularized.distill import frozen_copy
from effxfer.transfer.regularized.reference_model import ModelWrapper

# What comes with time: new classes; the same classes in other circumstances; or tasks whose number is known to users.
Scenario = Literal["class", "domain", "task"]
FAR_BELOW = -1e4  # as a logit: its exponential is 0, also in half precision


class StreamLearner(ModelWrapper):
    """A network that learns a task after others.

    Attributes:
        memory: What is kept of the earlier tasks; None for the first.
        taught: Columns of the head that earlier tasks taught.
        groups: In the scenario `task`, the task of each column, int64 `(C,)`; else None.
        exemplars: Examples that a strategy has chosen before training; None for none.
        statistics: Further tensors of the strategy, neither trained nor saved.
    """

    def __init__(self, net: Net, task: Task, scenario: Scenario, *, copies: bool = False) -> None:
        super().__init__(net)
        self.memory: Memory | None = net.memory
        self.taught = len(known_classes(net))
        self.groups = column_groups(net, task) if scenario == "task" else None
        self.exemplars: Exemplars | None = None
        self.statistics = dict[str, Tensor]()
        # In a tuple, so that torch does not register it: it would be trained, saved and moved with the network.
        self._source: tuple[Net, ...] = (frozen_copy(net),) if copies else ()

    @property
    def source(self) -> Net:
        """The network as it was when training began, in evaluation mode."""
        return self._source[0]

    def own_columns(self, raw: Tensor, labels: Tensor) -> Tensor:
        """Take the columns of other tasks out of logits `(B, C)`, where the task of each label `(B,)` is known."""
        return raw if self.groups is None else mask_columns(raw, labels, self.groups)


def mask_columns(raw: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Leave of logits `(B, C)` the columns of the task of each label `(B,)`; `groups` is the task of each column."""
    groups = groups.to(raw.device)
    return raw.masked_fill(groups[labels][:, None] != groups, FAR_BELOW)


def begin_stream(
    net: Net, task: Task, scenario: Scenario, *, label_smoothing: float = 0.0, mixes: bool = False,
    copies: bool = False,
) -> StreamLearner:  # fmt: skip
    """Wrap a network that is to learn a task after others; `copies` keeps a frozen copy beside it.

    Raises:
        SettingsError: If soft labels are set where each task has its own columns.
    """
    if scenario == "task" and (label_smoothing or mixes):
        text = "label_smoothing, mixup and cutmix spread labels over columns of other tasks"
        raise SettingsError(text, "leave them out, or take the scenario class")
    return StreamLearner(net, task, scenario, copies=copies)


def known_classes(net: Net) -> tuple[str, ...]:
    """Return the classes of the tasks that a network has learned, which are the first columns of its head."""
    taught = {name for task in (net.memory.tasks if net.memory else ()) for name in task["classes"]}
    return tuple(name for name in net.classes if name in taught)


def own_classes(task: Task) -> list[str]:
    """Return the classes of which a task has training examples; others are those of earlier tasks."""
    return [task.classes[i] for i in np.unique(task.train.labels).tolist()]


def column_groups(net: Net, task: Task | None = None) -> Tensor:
    """Return the number of the task that each column of the head belongs to, int64 `(C,)`."""
    groups = torch.zeros(len(net.classes), dtype=torch.int64)
    taught = [learned["classes"] for learned in (net.memory.tasks if net.memory else ())]
    for number, names in enumerate([*taught, *([own_classes(task)] if task else [])]):
        groups[[net.classes.index(name) for name in names]] = number
    return groups


def task_columns(net: Net) -> Tensor | None:
    """Return `column_groups` of a network that learned in the scenario `task`; None where all classes compete."""
    return column_groups(net) if net.memory and net.memory.facts.get("scenario") == "task" else None


def stream_accuracy(net: Net, rows: Any, labels: Any, device: Device, groups: Tensor | None = None) -> float:
    """Return the accuracy in points on examples; each among the columns of its task, if `groups` says which."""
    raw = predict(net, rows, net.input, device)
    if groups is not None:
        raw = mask_columns(raw, torch.from_numpy(np.asarray(labels)), groups.cpu())
    assert isinstance(net.output, SingleLabel)
    return net.output.score(raw.numpy(), labels).value


def mean_accuracy(net: Net, tasks: Sequence[tuple[Any, Any]], device: Device, groups: Tensor | None = None) -> float:
    """Return the mean over tasks of the accuracy in points; each task is its rows and labels."""
    return float(np.mean([stream_accuracy(net, rows, labels, device, groups) for rows, labels in tasks]))
