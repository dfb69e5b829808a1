"""MultiMNIST: two digits in one image, with three questions (after Sener and Koltun, 2018, section 5.1).

https://arxiv.org/abs/1810.04650. One digit is at the top left and one at the bottom right of 36 x 36 pixels, where they
overlap. The third question, which of them is larger, is ours: LibMTL's CAGrad takes three tasks and no other number.

Shape legend: N images of digits.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from effxfer.data.settings import DataSettings
from effxfer.data.task import Split, Task

DIGIT, SIDE = 28, 36
TASKS = ("left", "right", "larger")
FEATURES = 50


def lenet() -> nn.Sequential:
    """Make the body of LeNet for 36 pixels: 0.04 M parameters, 50 features."""
    return nn.Sequential(
        nn.Conv2d(3, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(20 * 6 * 6, FEATURES), nn.ReLU(),
    )  # fmt: skip


def write_pairs(digits: Task, folder: Path, counts: dict[str, int]) -> DataSettings:
    """Write pairs of digits of the same split as PNG files with a table.

    Args:
        digits: Digits of 28 pixels, white on black.
        folder: Where to write.
        counts: Number of pairs for each split.
    """
    import csv

    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "split", *TASKS))
        for name, split in (("train", digits.train), ("val", digits.val), ("test", digits.test)):
            for number in range(counts[name]):
                image, answers = pair(split, digits.classes, rng)
                Image.fromarray(image).save(folder / (path := f"{name}-{number:05d}.png"))
                writer.writerow((path, name, *answers))
    labels: Any = dict.fromkeys(TASKS, "single")
    return DataSettings(source=str(folder / "pairs.csv"), labels="tasks", tasks=labels)


def pair(split: Split, classes: tuple[str, ...], rng: np.random.Generator) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Draw two digits of different classes; return their image uint8 `(36, 36)` and the answers."""
    while True:
        first, second = rng.integers(len(split), size=2)
        left, right = (classes[int(split.labels[row])] for row in (first, second))
        if left != right:
            break
    image = np.zeros((SIDE, SIDE), np.uint8)
    for row, corner in ((first, 0), (second, SIDE - DIGIT)):
        place = image[corner : corner + DIGIT, corner : corner + DIGIT]
        np.maximum(place, split.rows[row][:, :, 0], out=place)
    return image, (left, right, "left" if left > right else "right")
