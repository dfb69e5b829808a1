"""A task of the frozen features of another: controls of zero-shot strategies learn from it in seconds.

Shape legend: N examples, D features, K known classes, E numbers of each class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.data.task import Split, Task, subset
from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.linear import Features


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenFeatures:
    """Features of a task's training and validation splits.

    Attributes:
        task: Its examples are vectors `(N, D)`.
    """

    task: Task

    @classmethod
    def of(cls, net: Net, task: Task, device: Device) -> "FrozenFeatures":
        """Compute them."""
        train, val = (_features_of(net, split, device) for split in (task.train, task.val))
        nothing = subset(val, np.empty(0, np.int64))
        input = Vectors(size=train.rows.shape[1])
        return cls(
            task=replace(
                task, train=train, val=val, test=nothing, input=input, unlabelled=None, target=None, loader=None
            )
        )

    def net(self) -> Net:
        """Return a network whose features are the vectors themselves, without a head."""
        return Net({"source": "effxfer.net.mlp:mlp", "args": {"inputs": self.task.input.size}}, self.task.input)

    def drop_classes(self, classes: Sequence[int]) -> Task:
        """Return the task of the other classes, in their order."""
        task, rows = self.task, self.task.class_embeddings
        assert rows is not None
        chosen = [index for index in range(len(task.classes)) if index not in classes]
        return replace(
            task, output=SingleLabel(classes=tuple(task.classes[index] for index in chosen)),
            class_embeddings=rows[chosen], train=select_classes(task.train, chosen),
            val=select_classes(task.val, chosen),
        )  # fmt: skip


def select_classes(split: Split, classes: Sequence[int]) -> Split:
    """Return the examples of some classes, whose labels become their places among them."""
    place = np.full(max(int(split.labels.max(initial=0)) + 1, max(classes, default=0) + 1), -1, np.int64)
    place[list(classes)] = np.arange(len(classes))
    labels = place[split.labels]
    return subset(replace(split, labels=labels), np.flatnonzero(labels >= 0))


@torch.no_grad()
def compare(net: Net, features: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compare features `(N, D)` with the rows of any classes `(C, E)` by a network's head: logits `(N, C)`."""
    head = net.head
    assert isinstance(head, Compare)
    device = head.table.device
    logits = head.eval().compare(torch.from_numpy(features).to(device), torch.from_numpy(table).to(device))
    return logits.float().cpu().numpy()


def _features_of(net: Net, split: Split, device: Device) -> Split:
    rows = predict(Features(net), split.rows, net.input, device).numpy()
    return Split(rows=rows, labels=split.labels, names=split.names)
