"""Read CSV, TSV and Parquet tables into rows of text, and explain why a file is not a table."""

import csv
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from effxfer.data.labels.cells import Problem, label_reader
from effxfer.data.listing import Finding, count_paths, first_names
from effxfer.data.settings import SPLIT, DataSettings
from effxfer.data.sources.text_bytes import decoding_error, require_text, text_lines
from effxfer.errors import DataError, did_you_mean, missing_package
from effxfer.runtime.reading import TooLargeError, open_regular, read_regular

# A table of 1 GB filled the memory: as Python objects, rows take several times their text.
MAX_BYTES = 256_000_000
# About 300 bytes each in memory, 1.5 GB.
MAX_ROWS = 5_000_000
LONGEST_HEADER = 100_000
# Commas first, which a tie takes. Semicolons are Excel's where the comma is the decimal sign.
DELIMITERS = (",", "\t", ";", "|")
NAME_HINT = "name them with path_column, {} and split_column, or add a header line; text_column names one of texts"
R = TypeVar("R")


class Row(NamedTuple):
    """One row as text.

    Attributes:
        number: Its line, or its row of a Parquet table, for messages.
        path: As it is written.
        label: Text of `labels.cells`; empty if there is a problem.
        split: As it is written; empty without a column.
        problem: Why the row has no usable label.
        caption: Of the image, with single blanks between its words; empty without a column.
    """

    number: int
    path: str
    label: str
    split: str
    problem: Problem | None = None
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Columns(Generic[R]):
    """The columns to read of a table.

    Attributes:
        names: Names in the header by role. The role `label` is checked for numbers with and without quotes.
        make: Makes a row of its line or row number and the cells of the columns in their order, as text; cells of
            absent columns are empty.
        hint: What would work if a column is absent.
        optional: Roles whose column may be absent.
        longest: Most characters of a cell; None for the 131,072 of the module `csv`.
    """

    names: Mapping[str, str]
    make: Callable[[int, Sequence[str]], R]
    hint: str
    optional: Collection[str] = ()
    longest: int | None = None


class TableRows(NamedTuple, Generic[R]):
    """The rows of a table, and findings about them."""

    rows: list[R]
    findings: list[Finding]


def read_rows(file: Path, settings: DataSettings) -> TableRows[Row]:
    """Read the path, the labels and the split (if the column exists) of each row.

    Args:
        file: `.csv`, `.tsv` or `.parquet`.
        settings: Column names.

    Raises:
        DataError: As `read_columns` does.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    read_label = label_reader(settings)
    names = {"path": settings.path_column, **label_roles(settings), "split": settings.split_column}
    names |= {"caption": settings.caption_column} if settings.caption_column else {}

    def make(number: int, cells: Sequence[str]) -> Row:
        path, *label_cells, split = cells[: len(cells) - bool(settings.caption_column)]
        label, caption = read_label(label_cells), " ".join(cells[-1].split()) if settings.caption_column else ""
        problem = None if isinstance(label, str) else label
        if settings.caption_column and not caption:
            problem = problem or Problem("E345", "no caption", "describe the image, or remove the row")
        return Row(number, path, label if isinstance(label, str) else "", split, problem, caption)

    optional = {"split"} if settings.split_column == SPLIT else set[str]()
    hint = NAME_HINT.format("label_columns" if settings.label_columns else "label_column")
    return read_columns(file, Columns(names=names, optional=optional, hint=hint, make=make))


def label_roles(settings: DataSettings) -> dict[str, str]:
    """Return the columns of labels by their roles, in the order in which a `label_reader` takes their cells."""
    names = settings.names_of_labels
    return {"label": names[0]} if settings.labels == "single" else {f"label {name}": name for name in names}


def column_names(file: Path) -> set[str]:
    """Return the names of a table's columns, perhaps among other parts of its header; none if it cannot be read."""
    try:
        with open_regular(file) as stream:
            if file.suffix.lower() == ".parquet":
                return _parquet_names(stream)
            header = stream.read(LONGEST_HEADER).decode("utf-8-sig", "replace").lstrip().partition("\n")[0]
    except (OSError, ValueError):  # whoever reads the table says why
        return set()
    return {name.strip().strip('"') for delimiter in DELIMITERS for name in header.split(delimiter)}


def _parquet_names(stream: Any) -> set[str]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return set()
    try:
        return set(parquet.ParquetFile(stream).schema_arrow.names)
    except ArrowException:
        return set()


def read_columns(file: Path, columns: Columns[R]) -> TableRows[R]:
    """Read some columns of a table.

    Args:
        file: `.csv`, `.tsv` or `.parquet`.
        columns: The columns.

    Raises:
        DataError: `E310` if the file does not exist, `E330` if it is not a table, or has more than 256 MB of text or 5
            million rows, `E331` if a required column is missing.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    read = _read_parquet if file.suffix.lower() == ".parquet" else _read_text
    try:
        return read(file, columns)
    except FileNotFoundError:
        raise DataError(f"no table {file}", "give a .csv, .tsv or .parquet file", code="E310") from None
    except TooLargeError as error:
        raise DataError(f"{file}: {error.strerror} for a table", "split it", code="E330") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}", code="E330") from None


def _read_text(file: Path, columns: Columns[R]) -> TableRows[R]:
    data = read_regular(file, MAX_BYTES)
    require_text(data, file, "E330")
    reader = None
    try:
        delimiter = _guess_delimiter(next(text_lines(data), ""), columns)
        reader = csv.reader(text_lines(data), delimiter=delimiter, strict=True)
        with _cell_limit(columns.longest):
            header = next(reader, [])
            places = _find_columns(header, columns, file)
            parsed, numbers = _parse_rows(reader, places, len(header), columns, file)
    except UnicodeDecodeError:
        raise decoding_error(data, file, "E330") from None
    except csv.Error as error:
        line = f" near line {reader.line_num}" if reader else ""
        raise DataError(f"{file} is not a table: {error}{line}", "look for an open quote", code="E330") from None
    return TableRows(parsed.rows, [*parsed.findings, *_check_quotes(data, numbers, delimiter, places, len(header))])


@contextmanager
def _cell_limit(longest: int | None) -> Iterator[None]:
    """Set the most characters of a cell, which is a setting of the module `csv` for the whole process."""
    before = csv.field_size_limit()
    csv.field_size_limit(longest or before)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _guess_delimiter(header: str, columns: Columns[R]) -> str:
    expected = set(columns.names.values())

    def fits(delimiter: str) -> tuple[int, int]:
        names = [name.strip().strip('"') for name in header.strip().split(delimiter)]
        return len(expected & set(names)), len(names)

    # By the header alone: only a name of a column is known beforehand.
    return max(DELIMITERS, key=fits)


def _find_columns(header: Sequence[str], columns: Columns[R], file: Path) -> dict[str, int]:
    """Find the columns by name; absent optional ones are left out."""
    names = [name.strip() for name in header]
    required = {r: name for r, name in columns.names.items() if r not in columns.optional or name in names}
    missing = [name for name in required.values() if name not in names]
    repeated = [name for name in required.values() if names.count(name) > 1]
    if missing:
        near = did_you_mean(missing[0], names)
        available = first_names([repr(name) for name in names])
        problem = f"{file} has no column {first_names([repr(name) for name in missing])}{near}; it has {available}"
        raise DataError(problem, columns.hint, code="E331")
    if repeated:
        raise DataError(f"{file} has several columns {repeated[0]!r}", "rename all but one", code="E331")
    return {role: names.index(name) for role, name in required.items()}


def _parse_rows(
    reader: Any, places: Mapping[str, int], width: int, columns: Columns[R], file: Path
) -> tuple[TableRows[R], set[str]]:
    """Return the rows, and the labels that end with a digit."""
    rows, blank, numbers = list[R](), list[str](), set[str]()
    order = [places.get(role, -1) for role in columns.names]
    for values in reader:
        if not any(value.strip() for value in values):
            blank += [f"row {reader.line_num}"] if values else []
            continue
        if len(values) != width:
            problem = f"{file} line {reader.line_num} has {len(values)} fields, the header has {width}"
            raise DataError(problem, "use one delimiter throughout, and quote fields that hold it", code="E330")
        cells = [values[place].strip() if place >= 0 else "" for place in order]
        rows.append(columns.make(reader.line_num, cells))
        if "label" in places and values[places["label"]].strip()[-1:].isdigit():
            numbers.add(values[places["label"]].strip())
        _check_row_count(len(rows), file)
    return TableRows(rows, [_note("W330", f"empty rows left out: {count_paths(blank)}")] if blank else []), numbers


def _check_row_count(count: int, file: Path) -> None:
    if count > MAX_ROWS:
        raise DataError(f"{file} has more than {MAX_ROWS} rows", "split it into several tables", code="E330")


def _check_quotes(
    data: bytes, numbers: set[str], delimiter: str, places: Mapping[str, int], width: int
) -> list[Finding]:
    """Warn about numbers that are labels both with and without quotes, which some programs distinguish."""
    if not numbers or b'"' not in data:
        return []
    cells = (line.rstrip("\r\n").split(delimiter) for line in text_lines(data))
    labels = {cell[places["label"]].strip() for cell in cells if len(cell) == width}
    both = sorted(label for label in numbers if label in labels and f'"{label}"' in labels)
    text = f"with and without quotes, taken as one class each: {first_names([repr(label) for label in both])}"
    return [Finding(code="W337", severity="warning", path="", text=text)] if both else []


def _note(code: str, text: str) -> Finding:
    return Finding(code=code, severity="note", path="", text=text)


def _read_parquet(file: Path, columns: Columns[R]) -> TableRows[R]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise missing_package("pyarrow", "table", "Parquet tables") from None
    with open_regular(file) as stream:
        try:
            table = parquet.ParquetFile(stream)
            _check_row_count(table.metadata.num_rows, file)
            fields = _parquet_fields(table.schema_arrow, columns, file)
            cells = (
                row
                for batch in table.iter_batches(columns=list(fields.values()))
                for row in _cells(batch, fields, columns)
            )
            rows = [columns.make(number, row) for number, row in enumerate(cells, 1)]
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} is not a Parquet table: {error}", "write it again", code="E330") from None
    return TableRows(rows, [])


def _cells(batch: Any, fields: Mapping[str, str], columns: Columns[R]) -> Iterator[list[str]]:
    """Return the rows of a batch as text; as Python objects, whole columns would fill the memory."""
    absent = [""] * batch.num_rows
    values = [batch.column(fields[role]).to_pylist() if role in fields else absent for role in columns.names]
    return ([_text(value) for value in row] for row in zip(*values, strict=True))


def _parquet_fields(schema: Any, columns: Columns[R], file: Path) -> dict[str, str]:
    """Return the names of the columns by role; they must hold text or numbers."""
    from pyarrow import types

    places = _find_columns(schema.names, columns, file)
    fields = {role: schema.field(place) for role, place in places.items()}
    for field in fields.values():
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            lists = "lists as text such as `beach|dog`, " if types.is_list(kind) or types.is_large_list(kind) else ""
            hint = f"give columns of text or numbers, {lists}and images as files"
            raise DataError(f"{file}: column {field.name!r} holds {kind}, not text", hint, code="E331")
    return {role: field.name for role, field in fields.items()}


def _text(value: object) -> str:
    """Convert a cell into text: integral floats without `.0` (a column with gaps holds floats), empty for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
