"""Images with answers to several questions, as PNG files with a table, and the small network that learns them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from effxfer.data.settings import DataSettings
from effxfer.data.task import Split, Task

Draw = Callable[[Split, np.random.Generator], tuple[NDArray[np.uint8], tuple[str, ...]]]
FEATURES = 50


def write_table(
    task: Task, folder: Path, counts: Mapping[str, int], questions: Sequence[str], draw: Draw
) -> DataSettings:
    """Write images that `draw` makes of each split's own ones, with their answers.

    Args:
        task: Images of one class each.
        folder: Where to write.
        counts: Number of images for each split.
        questions: Names of the questions.
        draw: Makes an image, uint8 `(H, W)` or `(H, W, 3)`, and its answers.
    """
    import csv

    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "answers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "split", *questions))
        for name, split in (("train", task.train), ("val", task.val), ("test", task.test)):
            for number in range(counts[name]):
                image, answers = draw(split, rng)
                Image.fromarray(image).save(folder / (path := f"{name}-{number:05d}.png"))
                writer.writerow((path, name, *answers))
    labels: Any = dict.fromkeys(questions, "single")
    return DataSettings(source=str(folder / "answers.csv"), labels="tasks", tasks=labels)


def lenet(side: int) -> nn.Sequential:
    """Make the body of LeNet for images of a side that is a multiple of 4: 50 features, 0.04 M parameters at 36."""
    left = (side // 2 - 2) // 2 - 2 - (side // 2 % 2)
    return nn.Sequential(
        nn.Conv2d(3, 10, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(20 * left * left, FEATURES), nn.ReLU(),
    )  # fmt: skip
