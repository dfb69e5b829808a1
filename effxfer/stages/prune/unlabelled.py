"""Images without labels in the recovery of a pruned network: the unpruned one answers for them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from effxfer.data.task import Task, TaskLoader, stack_splits, subset
from effxfer.net.net import Net
from effxfer.runtime.inputs import Input
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict

# Chosen: the two splits are copied into one in memory, 0.35 MB an image of 224 px with its canvas; where so many have
# labels, further ones teach little.
MOST_IMAGES = 5_000


def with_answers(task: Task, net: Net, device: Device) -> Task:
    """Add the unlabelled images of a task to its training split, labelled with the class that a network answers.

    The teacher's outputs for them are what the recovery learns from; its answers stand in for labels (Lee, 2013,
    "Pseudo-Label"). Only single labels have them; the task is returned as it is for others, without such images, with
    those of a target domain, or where 5,000 images have labels. No more than that take part in all, evenly spread.

    Args:
        task: The task, as `net` takes it.
        net: The trained network.
        device: Device of the network.
    """
    further, room = task.unlabelled, MOST_IMAGES - len(task.train)
    if further is None or task.target is not None or task.output.kind != "single" or min(len(further), room) < 1:
        return task
    count = min(len(further), room)
    places = np.linspace(0, len(further) - 1, count).round().astype(np.int64)
    answers = predict(net, further.rows[places], net.input, device).argmax(1).numpy().astype(np.int64)
    note = f"{count} images without labels take part in the recovery, with the answers of the network before"
    return _join(replace(task, notes=(*task.notes, note)), places, answers)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Decodes a task again, with the same answers for its unlabelled images."""

    loader: TaskLoader
    places: NDArray[np.int64]
    answers: NDArray[np.int64]

    def load(self, input: Input) -> Task:
        """Make the task as a network with this input sees it."""
        return _join(self.loader.load(input), self.places, self.answers)


def _join(task: Task, places: NDArray[np.int64], answers: NDArray[np.int64]) -> Task:
    assert task.unlabelled is not None
    further = replace(subset(task.unlabelled, places), labels=answers)
    loader = task.loader and Answered(loader=task.loader, places=places, answers=answers)
    return replace(task, train=stack_splits([task.train, further]), unlabelled=None, loader=loader)
