"""Print predictions, and write them as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EXAMPLE = ("file", "row", "text", "other")
LONGEST = 60  # characters of a text in a line on the terminal


def show(rows: Sequence[Mapping[str, Any]], out: Path | None, *, as_json: bool) -> None:
    """Print rows of `predict_files`, and write them to `out`.

    Args:
        rows: The rows.
        out: A CSV file, or None.
        as_json: Print JSON instead of lines.
    """
    from effxfer.cli import show as printing
    from effxfer.cli.command_line import reproduce

    if out:
        write_predictions(rows, out)
    if as_json:
        printing.document({"predictions": rows})
    else:
        print(*(f"{name(row)}\t{answer(row)}" for row in rows), reproduce(), sep="\n")


def require_all(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise if an example could not be used.

    Raises:
        DataError: With the first one.
    """
    from effxfer.errors import DataError

    failed = [row for row in rows if "error" in row]
    if failed:
        unit = "texts" if not all("file" in row for row in rows) else "vectors" if "row" in failed[0] else "images"
        problem, error = f"{len(failed)} of {len(rows)} {unit} failed", failed[0]["error"]
        raise DataError(problem, f"the first is {name(failed[0])}: {error}", code=error[:4])


def name(row: Mapping[str, Any]) -> str:
    """Return a row's file or text, as it is printed."""
    from effxfer.runtime.printing import printable

    texts = [str(row[key]) for key in EXAMPLE if key in row]
    shown = texts if "file" in row else [t if len(t) <= LONGEST else f"{t[: LONGEST - 3]}..." for t in texts]
    return " | ".join(map(printable, shown))


def answer(row: Mapping[str, Any]) -> str:
    """Return a row's prediction, as it is printed."""
    from effxfer.runtime.printing import printable

    if "error" in row:
        return printable(row["error"])
    if "values" in row:
        return "\t".join(f"{printable(key)} {value:.6g}" for key, value in row["values"].items())
    ranked = row["top"] if "label" in row else row["labels"]
    return "\t".join(f"{printable(one['label'])} {100 * one['probability']:.1f} %" for one in ranked) or "no label"


def write_predictions(rows: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """Write a CSV file (UTF-8) with one row per example.

    Its columns are `file`, `file` and `row`, or `text` and `other`; `label`, `probability`, `label 2` and so on, or the
    names of the values; and `error`. File names, texts and labels that a spreadsheet would read as formulas are
    prefixed with `'` (see `csv_cell`).
    """
    import csv
    import io

    from effxfer.files import write_atomic
    from effxfer.runtime.printing import csv_cell

    text, plain = io.StringIO(newline=""), [_columns(row) for row in rows]
    keys = [key for key in EXAMPLE if any(key in row for row in plain)] or ["file"]
    # The longest row has all columns; without a prediction, those of a single label.
    longest = max(plain, key=len, default={})
    columns = [key for key in longest if key not in (*EXAMPLE, "error")] or ["label", "probability"]
    writer = csv.DictWriter(text, list(map(csv_cell, [*keys, *columns, "error"])), restval="")
    writer.writeheader()
    for row in plain:
        writer.writerow({csv_cell(key): csv_cell(value) for key, value in row.items()})
    return write_atomic(file, text.getvalue().encode("utf-8", "backslashreplace"))


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a row by the name of their column."""
    ranked = row.get("labels", row.get("top", ()))
    numbered = [(("" if rank == 1 else f" {rank}"), each) for rank, each in enumerate(ranked, 1)]
    cells = {f"{key}{suffix}": each[key] for suffix, each in numbered for key in ("label", "probability")}
    example = {key: row[key] for key in EXAMPLE if key in row}
    return {**example, **cells, **row.get("values", {}), **({"error": row["error"]} if "error" in row else {})}
