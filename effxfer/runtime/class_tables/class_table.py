"""Read a table of classes: a row for each, its name and its numbers.

Shape legend: C classes, E numbers of each.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.class_tables.class_table_error import ClassTableError
from effxfer.runtime.reading import TooLargeError, read_regular

HEADER = "class"
# Chosen: 21,000 classes of ImageNet with 300 numbers of 8 characters each are 50 MB.
LARGEST_FILE = 256_000_000
FORM = "write the name of a class and its numbers in each line: `zebra,1,0,0.5`"
SHOWN = 5
LARGEST_NUMBER = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassTable:
    """What is known of classes.

    Attributes:
        names: C names.
        values: float32 `(C, E)`, finite.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.names) or 0 in self.values.shape:
            text = f"{len(self.names)} names of classes and numbers of shape {self.values.shape}"
            raise ClassTableError(text, "give a row of numbers for each class", code="E373")
        require_distinct(self.names)
        bad = np.flatnonzero(~np.isfinite(self.values).all(1))
        if len(bad):
            text = f"{self.names[bad[0]]!r} has NaN or infinity among its numbers"
            raise ClassTableError(text, "fill them in", code="E373")

    @property
    def width(self) -> int:
        """Numbers of each class, E."""
        return int(self.values.shape[1])

    def content(self) -> tuple[list[str], str]:
        """Return the names, and the numbers as hexadecimal text, to make a digest of."""
        return list(self.names), self.values.astype("<f4").tobytes().hex()

    def select(self, names: Sequence[str]) -> "ClassTable":
        """Return the rows of some classes, in their order.

        Raises:
            ClassTableError: `E371` with the classes that have none.
        """
        row_of = {name: row for row, name in enumerate(self.names)}
        absent = [name for name in names if name not in row_of]
        if absent:
            near = [name for name in self.names if name.casefold() in {text.casefold() for text in absent}]
            hint = f"it has {near[0]!r}: write names as the data do" if near else "add a row for each class"
            raise ClassTableError(f"no row for {join_names(absent)}", hint, code="E371")
        return ClassTable(names=tuple(names), values=self.values[[row_of[name] for name in names]])


def join_names(names: Sequence[str]) -> str:
    """Join the first five names and count the others.

    >>> join_names(["cat", "truck"])
    "'cat', 'truck'"
    """
    suffix = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + suffix


def require_distinct(names: Sequence[str]) -> None:
    """Refuse two rows for a class, and classes that differ in case alone.

    Raises:
        ClassTableError: `E372`.
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        text = f"two rows for {join_names(twice)}"
        raise ClassTableError(text, "leave one row for each class", code="E372")
    folded = Counter(name.casefold() for name in names)
    alike = sorted(name for name in names if folded[name.casefold()] > 1)
    if alike:
        text = f"names that differ in case alone: {join_names(alike)}"
        raise ClassTableError(text, "give each class a name of its own", code="E372")


def read_class_table(file: Path) -> ClassTable:
    """Read a `.csv` file: in each line the name of a class and its numbers.

    A first line is the names of the columns if it begins with `class`, or if none of its other cells is a number.

    Args:
        file: UTF-8, at most 256 MB.

    Raises:
        ClassTableError: `E370` if it cannot be read or holds no class, `E372` for two rows of a class or names that
            differ in case alone, `E373` for rows of other lengths and cells that are no finite numbers.
    """
    rows = [(number, row) for number, row in _rows(file) if any(cell.strip() for cell in row)]
    if rows and _is_header(rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise ClassTableError(f"{file} holds no class", FORM, code="E370")
    width = len(rows[0][1])
    names, values = list[str](), np.empty((len(rows), width - 1), np.float32)
    for place, (number, row) in enumerate(rows):
        if len(row) != width or width < 2 or not row[0].strip():
            text = f"line {number} of {file} has {len(row)} cells, the first class has {width}: {','.join(row):.60}"
            raise ClassTableError(text, FORM, code="E373")
        names.append(row[0].strip())
        values[place] = [_number(cell, number, file) for cell in row[1:]]
    try:
        return ClassTable(names=tuple(names), values=values)
    except ClassTableError as error:
        raise ClassTableError(f"{file}: {error.problem}", error.hint, code=error.code) from None


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    try:
        text = read_regular(file, LARGEST_FILE).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        return [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        text = f"{file} is not UTF-8 text: {error.reason} at byte {error.start}"
        raise ClassTableError(text, "save it as UTF-8", code="E370") from None
    except csv.Error as error:
        raise ClassTableError(f"{file} is no table: {error}", FORM, code="E370") from None
    except TooLargeError as error:
        raise ClassTableError(f"{file}: {error.strerror}", "leave out classes", code="E370") from None
    except OSError as error:
        text = f"{file} cannot be read: {error.strerror}"
        raise ClassTableError(text, "name a .csv file of classes", code="E370") from None


def _is_header(row: Sequence[str]) -> bool:
    return row[0].strip().lower() == HEADER or (len(row) > 1 and not any(_is_number(cell) for cell in row[1:]))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, line: int, file: Path) -> float:
    # A comparison, so that NaN fails it as well.
    if not _is_number(cell) or not abs(float(cell)) <= LARGEST_NUMBER:
        text = f"line {line} of {file} has {cell!r:.60}, which is no finite number"
        raise ClassTableError(text, "fill in a number", code="E373")
    return float(cell)
