"""Tables of several labels and of values, with small images beside."""

import csv
from pathlib import Path

from effxfer.data.settings import DataSettings
from tests.data.corpus import class_folders

TAGS = {"labels": "multi", "label_column": "tags"}
FLAGS = {"labels": "multi", "label_columns": ("sea", "dog")}
VALUES = {"labels": "value", "label_columns": ("weight", "age")}
AGE = {"labels": "value", "label_column": "age"}


def tags_of(number: int) -> str:
    """Labels of the n-th image: `dog` of every second, `beach` of every third, none of every sixth but one."""
    return "|".join(name for name, step in (("dog", 2), ("beach", 3)) if number % step == 0)


def cells_of(number: int) -> dict[str, object]:
    """All label columns of the n-th image; `dog` of every fifth and `weight` of every fourth are unknown."""
    return {
        "tags": tags_of(number), "sea": number % 2, "dog": "-1" if number % 5 == 0 else number % 3 // 2,
        "weight": "" if number % 4 == 0 else number / 8, "age": number,
    }  # fmt: skip


def write_table(file: Path, rows, header, delimiter=",") -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return file


def labelled_images(root: Path, count: int = 60, changes=None, splits=None) -> Path:
    """Write `count` images and a table with the columns of `cells_of`.

    Args:
        root: Folder of the table.
        count: Number of images.
        changes: Other cells of some rows, by number.
        splits: Split of each image; None leaves the column out.
    """
    class_folders(root, {"images": count})
    cells = [{"path": f"images/{n:03d}.jpg", **cells_of(n), **(changes or {}).get(n, {})} for n in range(count)]
    for n, split in enumerate(splits or ()):
        cells[n]["split"] = split
    return write_table(root / "table.csv", [row.values() for row in cells], cells[0])


def settings_of(table: Path, kind: dict, **options) -> DataSettings:
    return DataSettings(source=str(table), **kind, **options)
