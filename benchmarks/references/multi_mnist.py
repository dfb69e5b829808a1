"""MultiMNIST: two digits in one image, with three questions (after Sener and Koltun, 2018, section 5.1).

https://arxiv.org/abs/1810.04650. One digit is at the top left and one at the bottom right of 36 x 36 pixels, where they
overlap. The third question, which of them is larger, is ours: LibMTL's CAGrad takes three tasks and no other number.

Shape legend: N images of digits.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.references.question_table import write_table
from effxfer.data.settings import DataSettings
from effxfer.data.task import Split, Task

READ, SIDE = 28, 36  # sides of what is read and of what is written
TASKS = ("left", "right", "larger")


def write(digits: Task, folder: Path, counts: Mapping[str, int]) -> DataSettings:
    """Write pairs of digits of the same split as PNG files with a table.

    Args:
        digits: Digits of 28 pixels, white on black.
        folder: Where to write.
        counts: Number of pairs for each split.
    """
    return write_table(digits, folder, counts, TASKS, lambda split, rng: pair(split, digits.classes, rng))


def pair(split: Split, classes: tuple[str, ...], rng: np.random.Generator) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Draw two digits of different classes; return their image uint8 `(36, 36)` and the answers."""
    while True:
        first, second = rng.integers(len(split), size=2)
        left, right = (classes[int(split.labels[row])] for row in (first, second))
        if left != right:
            break
    image = np.zeros((SIDE, SIDE), np.uint8)
    for row, corner in ((first, 0), (second, SIDE - READ)):
        place = image[corner : corner + READ, corner : corner + READ]
        np.maximum(place, split.rows[row][:, :, 0], out=place)
    return image, (left, right, "left" if left > right else "right")
