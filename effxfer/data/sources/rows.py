"""Read CSV, TSV and Parquet tables into rows of text, and explain why a file is not a table."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from effxfer.data.listing import Finding, count_paths, first_names
from effxfer.data.settings import SPLIT, DataSettings
from effxfer.errors import DataError, did_you_mean, missing_package
from effxfer.runtime.reading import TooLargeError, open_regular, read_regular

# A table of 1 GB filled the memory: as Python objects, rows take several times their text.
MAX_BYTES = 256_000_000
# About 300 bytes each in memory, 1.5 GB.
MAX_ROWS = 5_000_000
# Commas first, which a tie takes. Semicolons are Excel's where the comma is the decimal sign.
DELIMITERS = (",", "\t", ";", "|")
SAVE = "save it as UTF-8 text (in Excel: CSV UTF-8)"


class Row(NamedTuple):
    """One row as text, with its line or row number for messages."""

    number: int
    path: str
    label: str
    split: str


class Rows(NamedTuple):
    """The rows of a table, and findings about them."""

    rows: list[Row]
    findings: list[Finding]


def read_rows(file: Path, settings: DataSettings) -> Rows:
    """Read the path, the label and the split (if the column exists) of each row.

    Args:
        file: `.csv`, `.tsv` or `.parquet`.
        settings: Column names.

    Raises:
        DataError: `E310` if the file does not exist, `E330` if it is not a table, or has more than 256 MB of text or 5
            million rows, `E331` if a required column is missing.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    read = _read_parquet if file.suffix.lower() == ".parquet" else _read_text
    try:
        return read(file, settings)
    except FileNotFoundError:
        raise DataError(f"no table {file}", "give a .csv, .tsv or .parquet file", code="E310") from None
    except TooLargeError as error:
        raise DataError(f"{file}: {error.strerror} for a table", "split it", code="E330") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}", code="E330") from None


def _read_text(file: Path, settings: DataSettings) -> Rows:
    data = read_regular(file, MAX_BYTES)
    _check_encoding(data, file)
    reader = None
    try:
        delimiter = _guess_delimiter(next(_lines(data), ""), settings)
        reader = csv.reader(_lines(data), delimiter=delimiter, strict=True)
        columns = _find_columns(next(reader, []), settings, file)
        parsed = _parse_rows(reader, columns, file)
    except UnicodeDecodeError:
        raise _not_utf8(data, file) from None
    except csv.Error as error:
        line = f" near line {reader.line_num}" if reader else ""
        raise DataError(f"{file} is not a table: {error}{line}", "look for an open quote", code="E330") from None
    return Rows(parsed.rows, [*parsed.findings, *_check_quotes(data, parsed.rows, delimiter, columns)])


def _lines(data: bytes) -> Iterator[str]:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")


def _check_encoding(data: bytes, file: Path) -> None:
    """Refuse a file that cannot be UTF-8 text, and name its actual format.

    Raises:
        DataError: `E330`.
    """
    # Excel's files are zip archives.
    if data.startswith(b"PK\x03\x04"):
        raise DataError(f"{file} is a zip or an Excel file, not text", SAVE, code="E330")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file} is UTF-16 text", SAVE, code="E330")
    if (position := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, position) + 1
        raise DataError(f"{file} holds a NUL byte in line {line}", f"it is damaged or not text; {SAVE}", code="E330")


def _not_utf8(data: bytes, file: Path) -> DataError:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return DataError(f"{file} is not UTF-8 text: byte 0x{data[error.start]:02x} in line {line}", SAVE, code="E330")
    return DataError(f"{file} is not UTF-8 text", SAVE, code="E330")


def _guess_delimiter(header: str, settings: DataSettings) -> str:
    columns = {settings.path_column, settings.label_column, settings.split_column}

    def fits(delimiter: str) -> tuple[int, int]:
        names = [name.strip().strip('"') for name in header.strip().split(delimiter)]
        return len(columns & set(names)), len(names)

    # By the header alone: only a name of a column is known beforehand.
    return max(DELIMITERS, key=fits)


def _find_columns(header: Sequence[str], settings: DataSettings, file: Path) -> dict[str, int]:
    """Find the columns by name: `path`, `label` and `split` (if it exists), and the `width` of a row."""
    names = [name.strip() for name in header]
    split_needed = settings.split_column != SPLIT
    columns = {"path": settings.path_column, "label": settings.label_column}
    columns |= {"split": settings.split_column} if split_needed or settings.split_column in names else {}
    missing = [column for column in columns.values() if column not in names]
    repeated = [column for column in columns.values() if names.count(column) > 1]
    if missing:
        near = did_you_mean(missing[0], names)
        available = first_names([repr(name) for name in names])
        problem = f"{file} has no column {', '.join(map(repr, missing))}{near}; it has {available}"
        hint = "name them with path_column, label_column and split_column, or add a header line"
        raise DataError(problem, hint, code="E331")
    if repeated:
        raise DataError(f"{file} has several columns {repeated[0]!r}", "rename all but one", code="E331")
    return {role: names.index(column) for role, column in columns.items()} | {"width": len(names)}


def _parse_rows(reader: Any, columns: Mapping[str, int], file: Path) -> Rows:
    width, rows, blank = columns["width"], list[Row](), list[str]()
    for values in reader:
        if not any(value.strip() for value in values):
            blank += [f"row {reader.line_num}"] if values else []
            continue
        if len(values) != width:
            problem = f"{file} line {reader.line_num} has {len(values)} fields, the header has {width}"
            raise DataError(problem, "use one delimiter throughout, and quote fields that hold it", code="E330")
        split = values[columns["split"]].strip() if "split" in columns else ""
        rows.append(Row(reader.line_num, values[columns["path"]].strip(), values[columns["label"]].strip(), split))
        _check_row_count(len(rows), file)
    return Rows(rows, [_note("W330", f"empty rows left out: {count_paths(blank)}")] if blank else [])


def _check_row_count(count: int, file: Path) -> None:
    if count > MAX_ROWS:
        raise DataError(f"{file} has more than {MAX_ROWS} rows", "split it into several tables", code="E330")


def _check_quotes(data: bytes, rows: Sequence[Row], delimiter: str, columns: Mapping[str, int]) -> list[Finding]:
    """Warn about numbers that are labels both with and without quotes, which some programs distinguish."""
    numbers = {row.label for row in rows if row.label[-1:].isdigit()}
    if not numbers or b'"' not in data:
        return []
    cells = (line.rstrip("\r\n").split(delimiter) for line in _lines(data))
    labels = {cell[columns["label"]].strip() for cell in cells if len(cell) == columns["width"]}
    both = sorted(label for label in numbers if label in labels and f'"{label}"' in labels)
    text = f"with and without quotes, taken as one class each: {first_names([repr(label) for label in both])}"
    return [Finding(code="W337", severity="warning", path="", text=text)] if both else []


def _note(code: str, text: str) -> Finding:
    return Finding(code=code, severity="note", path="", text=text)


def _read_parquet(file: Path, settings: DataSettings) -> Rows:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise missing_package("pyarrow", "table", "Parquet tables") from None
    with open_regular(file) as stream:
        try:
            table = parquet.ParquetFile(stream)
            _check_row_count(table.metadata.num_rows, file)
            fields = _parquet_fields(table.schema_arrow, settings, file)
            selected = table.read(columns=[field.name for field in fields])
            values = [selected.column(field.name).to_pylist() for field in fields]
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} is not a Parquet table: {error}", "write it again", code="E330") from None
    numbered = enumerate(zip(*values, strict=True), 1)
    return Rows([Row(number, *(_text(value) for value in (*row, "", "")[:3])) for number, row in numbered], [])


def _parquet_fields(schema: Any, settings: DataSettings, file: Path) -> list[Any]:
    """Return the columns of path, label and split (if it exists); they must hold text or numbers."""
    from pyarrow import types

    columns = _find_columns(schema.names, settings, file)
    fields = [schema.field(columns[role]) for role in ("path", "label", "split") if role in columns]
    for field in fields:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            hint = "give columns of text or numbers, and images as files"
            raise DataError(f"{file}: column {field.name!r} holds {kind}, not text", hint, code="E331")
    return fields


def _text(value: object) -> str:
    """Convert a cell into text: integral floats without `.0` (a column with gaps holds floats), empty for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
