"""CSV, TSV and Parquet tables of image paths and labels; paths are relative to the table's folder."""

import csv
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from effxfer.data.folder import collisions
from effxfer.data.listing import SPLIT_NAMES, Finding, Found, Item
from effxfer.data.settings import SPLIT, DataSettings
from effxfer.errors import DataError, did_you_mean, missing_package

DELIMITERS = (",", "\t", ";", "|")
NO_LABEL = frozenset({"", "nan", "null"})


class Row(NamedTuple):
    """One row as text, with its line or row number for messages."""

    number: int
    path: str
    label: str
    split: str


def read_table(file: Path, settings: DataSettings) -> Found:
    """List the images of a table with a path, a label and optionally a split column.

    A CSV file may start with a byte order mark, end its lines as it likes, and be separated by comma, semicolon, tab
    or bar, which its header line decides. Labels are names: `1` is the class "1".

    Args:
        file: `.csv`, `.tsv` or `.parquet`.
        settings: Column names.

    Raises:
        DataError: `E310` without rows, `E330` if it is not one table, `E331` without a needed column.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    if not file.is_file():
        raise DataError(f"no table {file}", "give a .csv, .tsv or .parquet file", code="E310")
    rows = _parquet_rows(file, settings) if file.suffix.lower() == ".parquet" else _text_rows(file, settings)
    if not rows:
        raise DataError(f"{file} has a header and no rows", "add a row for each image", code="E310")
    return _checked(rows, file.parent)


def _text_rows(file: Path, settings: DataSettings) -> list[Row]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            header = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=_delimiter(header, settings), strict=True)
            columns = _columns(next(reader, []), settings, file)
            return _named(reader, columns, file)
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 text ({error})", "save it as UTF-8", code="E330") from None
        except csv.Error as error:
            raise DataError(f"{file} is not a table: {error}", "look for an open quote", code="E330") from None


def _named(reader: Any, columns: Mapping[str, int], file: Path) -> list[Row]:
    width, rows = columns["width"], []
    for values in reader:
        if not values:
            continue
        if len(values) != width:
            problem = f"{file} line {reader.line_num} has {len(values)} fields, the header has {width}"
            raise DataError(problem, "use one delimiter throughout, and quote fields that hold it", code="E330")
        split = values[columns["split"]].strip() if "split" in columns else ""
        rows.append(Row(reader.line_num, values[columns["path"]].strip(), values[columns["label"]].strip(), split))
    return rows


def _delimiter(header: str, settings: DataSettings) -> str:
    wanted = {settings.path_column, settings.label_column, settings.split_column}

    def fits(delimiter: str) -> tuple[int, int]:
        names = [name.strip().strip('"') for name in header.strip().split(delimiter)]
        return len(wanted & set(names)), len(names)

    return max(DELIMITERS, key=fits)


def _columns(header: Sequence[str], settings: DataSettings, file: Path) -> dict[str, int]:
    """Find the columns by name: `path`, `label`, `split` if there is one, and the `width` of a row."""
    names = [name.strip() for name in header]
    split_needed = settings.split_column != SPLIT
    wanted = {"path": settings.path_column, "label": settings.label_column}
    wanted |= {"split": settings.split_column} if split_needed or settings.split_column in names else {}
    missing = [column for column in wanted.values() if column not in names]
    if missing:
        near = did_you_mean(missing[0], names)
        problem = f"{file} has no column {', '.join(map(repr, missing))}{near}; it has {', '.join(map(repr, names))}"
        hint = "name them with path_column, label_column and split_column, or add a header line"
        raise DataError(problem, hint, code="E331")
    return {role: names.index(column) for role, column in wanted.items()} | {"width": len(names)}


def _parquet_rows(file: Path, settings: DataSettings) -> list[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise missing_package("pyarrow", "table", "Parquet tables") from None
    try:
        names = parquet.ParquetFile(file).schema_arrow.names
        columns = _columns(names, settings, file)
        wanted = [names[columns[role]] for role in ("path", "label", "split") if role in columns]
        values = [column.to_pylist() for column in parquet.read_table(file, columns=wanted).columns]
    except (ArrowException, OSError) as error:
        raise DataError(f"{file} is not a Parquet table: {error}", "write it anew", code="E330") from None
    return [
        Row(number, *(_text(v) for v in (*row, "", "")[:3])) for number, row in enumerate(zip(*values, strict=True), 1)
    ]


def _text(value: object) -> str:
    """Give a cell as text: whole floats without `.0` (a column with gaps holds floats), nothing for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _checked(rows: Sequence[Row], root: Path) -> Found:
    places = {row.path: _inside(row.path, root) for row in rows}
    findings = [finding for row in rows for finding in _row_findings(row, places[row.path])]
    good = [row for row in rows if not _row_findings(row, places[row.path])]
    items = [Item(places[row.path] or "", row.label, SPLIT_NAMES.get(row.split.lower(), "")) for row in good]
    findings += [*_repeated(good, places), *_partly_split(good)]
    unique = list({item.path: item for item in items}.values())
    return Found(unique, [*findings, *_numeric({i.label for i in items}), *collisions({i.label for i in items})])


def _inside(path: str, root: Path) -> str | None:
    """Give `path` relative to `root` without `..`, or None if it leads out of it."""
    base = os.path.abspath(root)  # noqa: PTH100 (resolve() would follow links, which are allowed here)
    full = os.path.normpath(f"{base}/{path}" if not path.startswith("/") else path)
    return full[len(base) + 1 :] if full.startswith(f"{base}/") else None


def _row_findings(row: Row, place: str | None) -> list[Finding]:
    found = []
    if place is None:
        hint = "keep images in the table's folder, and give paths relative to it"
        found.append(_error("E335", row, "path leads out of the table's folder", hint))
    if row.label.casefold() in NO_LABEL:
        found.append(_error("E334", row, f"no label ({row.label!r})", "label the image or remove the row"))
    if row.split and row.split.lower() not in SPLIT_NAMES:
        found.append(_error("E334", row, f"unknown split {row.split!r}", f"one of {', '.join(SPLIT_NAMES)}"))
    return found


def _error(code: str, row: Row, text: str, hint: str) -> Finding:
    return Finding(code=code, severity="error", path=row.path, text=f"row {row.number}: {text}", hint=hint)


def _repeated(rows: Iterable[Row], places: Mapping[str, str | None]) -> list[Finding]:
    groups = defaultdict(list)
    for row in rows:
        groups[places[row.path]].append(row)
    findings = []
    for same in groups.values():
        labels = sorted({row.label for row in same})
        if len(labels) > 1:
            text = f"one file with the labels {', '.join(map(repr, labels))}"
            findings.append(_error("E336", same[1], text, "keep one row for each image"))
        elif len(same) > 1:
            text = f"the same file as in row {same[0].number}"
            findings.append(_error("E332", same[1], text, "keep one row for each image"))
    return findings


def _partly_split(rows: Sequence[Row]) -> list[Finding]:
    without = [row for row in rows if not row.split]
    if not without or len(without) == len(rows):
        return []
    return [_error("E334", row, "no split, while other rows have one", "fill the split column") for row in without]


def _numeric(labels: set[str]) -> list[Finding]:
    """Warn where two class names are the same number, such as `1` and `01`."""
    same = defaultdict(list)
    for label in sorted(labels):
        try:
            same[float(label)].append(label)
        except ValueError:
            continue
    equal = [names for names in same.values() if len(names) > 1]
    return [
        Finding(code="W337", severity="warning", path="", text=f"equal as numbers, taken as separate classes: {names}")
        for names in (", ".join(map(repr, group)) for group in equal)
    ]
