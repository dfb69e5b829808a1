"""Labels that stand in one cell, such as `beach|dog`: find the separator, and number the names."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import NamedTuple

from effxfer.data.listing import Finding, first_names
from effxfer.errors import DataError

# Tables of films and X-rays have bars (`Comedy|Drama`), those of Excel semicolons where the comma is the decimal sign.
# Commas and spaces also stand in names, such as `golden retriever`.
SEPARATORS = ("|", ";")
# A byte for each image and label, as in the arrays of the task.
MAX_BYTES = 2**31


class IndexedNames(NamedTuple):
    """The labels of a column.

    Attributes:
        texts: By cell, a character for each class: `1` where it applies, else `0`.
        classes: All names, sorted.
        findings: A warning if no cell has two labels.
    """

    texts: dict[str, str]
    classes: tuple[str, ...]
    findings: list[Finding]


def index_names(cells: Sequence[str], separator: str | None, unit: str = "image") -> IndexedNames:
    """Split the cells of a column at the separator, and number the names in their order.

    Args:
        cells: The cells of all rows.
        separator: What separates names; None for the one of `SEPARATORS` that occurs.
        unit: What has the labels, in the singular.

    Raises:
        DataError: `E342` if both separators occur and none is given, or all cells are empty; `E330` if the labels would
            take more than 2 GB.
    """
    distinct = list(dict.fromkeys(cells))
    separator = separator or _find_separator(distinct)
    names = {cell: _split(cell, separator) for cell in distinct}
    classes = tuple(sorted({name for several in names.values() for name in several}))
    if not classes:
        raise DataError("all cells of the label column are empty", "name another with label_column", code="E342")
    if len(cells) * len(classes) > MAX_BYTES:
        text = f"{len(classes)} labels of {len(cells)} {unit}s take more than 2 GB: {first_names(classes)}"
        raise DataError(text, "leave out rare labels, or set label_separator", code="E330")
    columns = {name: column for column, name in enumerate(classes)}
    # Equal labels share a text: there are fewer combinations than examples.
    flags = cache(lambda present: _flags([columns[name] for name in present], len(classes)))
    return IndexedNames({cell: flags(several) for cell, several in names.items()}, classes, _check_single(names, unit))


def _flags(columns: Iterable[int], count: int) -> str:
    flags = bytearray(b"0" * count)
    for column in columns:
        flags[column] = ord("1")
    return flags.decode()


def _split(cell: str, separator: str) -> frozenset[str]:
    return frozenset(name for part in (cell.split(separator) if separator else [cell]) if (name := part.strip()))


def _find_separator(cells: Collection[str]) -> str:
    """Return the separator that occurs; empty if none does.

    Raises:
        DataError: `E342` if both occur.
    """
    examples = {sep: min(with_it) for sep in SEPARATORS if (with_it := [cell for cell in cells if sep in cell])}
    if len(examples) > 1:
        text = f"labels hold both {' and '.join(map(repr, examples))}: {' and '.join(map(repr, examples.values()))}"
        raise DataError(text, "say which separates them: label_separator", code="E342")
    return next(iter(examples), "")


def _check_single(names: dict[str, frozenset[str]], unit: str) -> list[Finding]:
    if any(len(several) > 1 for several in names.values()):
        return []
    text = f"no {unit} has two labels: they are names such as {max(names, key=len)!r:.60}"
    hint = "set label_separator to what separates them, or labels = 'single'"
    return [Finding(code="W342", severity="warning", path="", text=f"{text}; {hint}", hint=hint)]
