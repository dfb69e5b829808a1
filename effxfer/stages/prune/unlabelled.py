"""Images without labels in the recovery of a pruned network: the unpruned one answers for them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from effxfer.data.task import Split, Task, TaskLoader
from effxfer.net.net import Net
from effxfer.runtime.inputs import Input
from effxfer.runtime.rows import concat_rows
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict


def with_answers(task: Task, net: Net, device: Device) -> Task:
    """Add the unlabelled images of a task to its training split, labelled with the class that a network answers.

    The teacher's outputs for them are what the recovery learns from; its answers stand in for labels (Lee, 2013,
    "Pseudo-Label"). Only single labels have them; the task is returned as it is for others, or without such images.

    Args:
        task: The task, as `net` takes it.
        net: The trained network.
        device: Device of the network.
    """
    further = task.unlabelled
    if further is None or not len(further) or task.output.kind != "single":
        return task
    return _join(task, predict(net, further.rows, net.input, device).argmax(1).numpy().astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Decodes a task again, with the same answers for its unlabelled images."""

    loader: TaskLoader
    answers: NDArray[np.int64]

    def load(self, input: Input) -> Task:
        """Make the task as a network with this input sees it."""
        return _join(self.loader.load(input), self.answers)


def _join(task: Task, answers: NDArray[np.int64]) -> Task:
    further = task.unlabelled
    assert further is not None
    splits = (task.train, further)
    canvas = aspect = None
    if all(split.canvas is not None and split.aspect is not None for split in splits):
        canvas, aspect = (np.concatenate([getattr(split, name) for split in splits]) for name in ("canvas", "aspect"))
    train = Split(
        rows=concat_rows([split.rows for split in splits]), labels=np.concatenate([task.train.labels, answers]),
        names=[*task.train.names, *further.names], canvas=canvas, aspect=aspect,
    )  # fmt: skip
    loader = task.loader and Answered(loader=task.loader, answers=answers)
    return replace(task, train=train, unlabelled=None, loader=loader)
