"""Whether there are images enough: what very small data leave out, said by `check` as by the commands."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from effxfer.data.listing import Finding, Item
from effxfer.data.task import Task
from effxfer.errors import DataError

FOLDS = "`rank` and `search` judge on training images held out in turn: one class at least needs two"


def thin(items: Sequence[Item]) -> list[Finding]:
    """Warn (W313) of a test split without images, and of training images that leave none to hold out.

    Args:
        items: With their final split; of none, nothing is said.
    """
    classes = Counter(item.label for item in items if item.split == "train")
    found = []
    if classes and not any(item.split == "test" for item in items):
        found.append("no test images: accuracy is reported on the validation split alone")
    if classes and max(classes.values()) < 2:
        found.append(f"one training image of each class: {FOLDS}")
    return [Finding(code="W313", severity="warning", path="", text=text) for text in found]


def need_folds(task: Task) -> None:
    """Stop what judges on training images held out in turn where there is one of each class.

    Raises:
        DataError: `E313`.
    """
    if np.bincount(task.train.labels).max() < 2:
        problem = f"{task.name} has one training image of each class: {FOLDS}"
        raise DataError(problem, "add images", code="E313")


def need_validation(task: Task) -> None:
    """Stop where no validation image is left: epochs, gates and searches are decided by them.

    Raises:
        DataError: `E313`.
    """
    if not len(task.val):
        problem = f"{task.name} has no readable validation image"
        raise DataError(problem, "repair the images of val, or add others", code="E313")
