"""Three questions about an image of CIFAR-10: its class, whether it is an animal, and which way up it is.

The first two are near to each other, the third is that of self-supervised `rotation`: they share a body well and badly.

Shape legend: N images of CIFAR-10.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.references.question_table import write_table
from effxfer.data.settings import DataSettings
from effxfer.data.task import Split, Task

READ, SIDE = 32, 32  # sides of what is read and of what is written
TASKS = ("class", "kind", "turn")
VEHICLES = {"airplane", "automobile", "ship", "truck"}
TURNS = ("none", "quarter", "half", "three quarters")


def write(images: Task, folder: Path, counts: Mapping[str, int]) -> DataSettings:
    """Write turned images of the same split as PNG files with a table.

    Args:
        images: CIFAR-10 with its classes as names.
        folder: Where to write.
        counts: Number of images for each split.

    Raises:
        ValueError: If the classes are others.
    """
    if not set(images.classes) > VEHICLES:
        raise ValueError(f"classes should be those of CIFAR-10, such as {sorted(VEHICLES)}, not {images.classes}")
    return write_table(images, folder, counts, TASKS, lambda split, rng: turned(split, images.classes, rng))


def turned(
    split: Split, classes: tuple[str, ...], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Draw an image and a turn; return uint8 `(32, 32, 3)` and the answers."""
    row, turns = int(rng.integers(len(split))), int(rng.integers(len(TURNS)))
    name = classes[int(split.labels[row])]
    return np.rot90(split.rows[row], turns).copy(), (name, "vehicle" if name in VEHICLES else "animal", TURNS[turns])
