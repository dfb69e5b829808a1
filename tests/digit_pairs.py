"""Images of two digits side by side, with a table of which digits they are and of how much ink they have."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from effxfer.data.settings import DataSettings
from tests.data.label_tables import write_table

DIGITS = tuple("0123456789")
MULTI = {"labels": "multi", "label_column": "digits"}
VALUE = {"labels": "value", "label_column": "ink"}
TASKS = {"labels": {"left": "single", "right": "single", "digits": "multi", "ink": "value"}}
KINDS = {"multi": MULTI, "tasks": TASKS, "value": VALUE}


def pair(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Put two digits `(8, 8)` of 0 to 16 side by side on a square: uint8 `(16, 16)`."""
    square = np.zeros((16, 16))
    square[4:12, :8], square[4:12, 8:] = left, right
    return np.minimum(square * 16, 255).astype(np.uint8)


def write_pairs(folder: Path, count: int = 60, seed: int = 0) -> Path:
    """Write so many images of two digits, PNG, and a table; give the table."""
    digits, rng, rows = load_digits(), np.random.default_rng(seed), []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        left, right = rng.integers(0, len(digits.images), 2)
        square = pair(digits.images[left], digits.images[right])
        path = f"images/{number:05}.png"
        Image.fromarray(square).save(folder / path)
        tags = "|".join(sorted({str(digits.target[left]), str(digits.target[right])}))
        rows.append((path, tags, f"{square.mean():.3f}", str(digits.target[left]), str(digits.target[right])))
    return write_table(folder / "pairs.csv", rows, ("path", "digits", "ink", "left", "right"))


def data_of(table: Path, kind: str, **options: object) -> DataSettings:
    """Name a table with splits that are large enough to measure on."""
    return DataSettings(source=str(table), val_fraction=0.25, test_fraction=0.2, **KINDS[kind], **options)
