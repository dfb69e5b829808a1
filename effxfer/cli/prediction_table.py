"""Print predictions, and write them as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EXAMPLE = ("file", "row", "text", "other")
PLACE = ("start", "end", "probability")
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
    if "tasks" in row:
        return "\t".join(f"{printable(task)}: {_single_answer(each)}" for task, each in row["tasks"].items())
    return _single_answer(row)


def _single_answer(row: Mapping[str, Any]) -> str:
    """Return the prediction of one task, as it is printed."""
    from effxfer.runtime.printing import printable

    if "values" in row:
        return "\t".join(f"{printable(key)} {value:.6g}" for key, value in row["values"].items())
    if "answer" in row:
        place = "no answer" if row["answer"] is None else f"{printable(row['answer'])} ({row['start']}-{row['end']})"
        return f"{place} {100 * row['probability']:.1f} %"
    if parts := _parts(row):
        name, each = parts
        return "\t".join(_part(part, name) for part in each) or "no entity"
    ranked = row["top"] if "label" in row else row["labels"]
    # Near to no enrolled class: those that are nearest would read like an answer.
    if row.get("label", "") is None:
        return f"unknown, nearest is {printable(ranked[0]['label'])}"
    return "\t".join(f"{printable(one['label'])} {100 * one['probability']:.1f} %" for one in ranked) or "no label"


def _parts(row: Mapping[str, Any]) -> tuple[str, Sequence[Mapping[str, Any]]] | None:
    """Return the entities or the words of a row, and what their labels are called; None for other predictions."""
    if "entities" in row:
        return "type", row["entities"]
    return ("tag", row["words"]) if "words" in row else None


def _part(part: Mapping[str, Any], name: str) -> str:
    from effxfer.runtime.printing import printable

    place = f"{part['start']}-{part['end']}"
    return f"{printable(part['text'])} ({place}) {printable(part[name])} {100 * part['probability']:.1f} %"


def write_predictions(rows: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """Write a CSV file (UTF-8) with one row per example.

    Its columns are `file`, `file` and `row`, or `text` and `other`; `label`, `probability`, `label 2` and so on, or the
    names of the values; `entity`, `type`, `start`, `end`, `probability`, `entity 2` and so on, where tags mark no
    entities `word` and `tag`; or `answer`, `start`, `end` and `probability`; and `error`. With several tasks, each of
    these stands behind the task's name. File names, texts and labels
    that a spreadsheet would read as formulas are prefixed with `'` (see `csv_cell`).
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
    """Return the cells of a row by the name of their column; with several tasks their names come first."""
    if "tasks" in row:
        cells = {f"{task} {key}": value for task, each in row["tasks"].items() for key, value in _columns(each).items()}
        return {**{key: row[key] for key in EXAMPLE if key in row}, **cells}
    ranked = () if row.get("label", "") is None else row.get("labels", row.get("top", ()))
    keys = {"label": "label", "probability": "probability"}
    if parts := _parts(row):
        noun, ranked = "entity" if parts[0] == "type" else "word", parts[1]
        keys = {noun: "text", parts[0]: parts[0], **{key: key for key in PLACE}}
    numbered = [(("" if rank == 1 else f" {rank}"), each) for rank, each in enumerate(ranked, 1)]
    cells = {f"{column}{suffix}": each[key] for suffix, each in numbered for column, key in keys.items()}
    cells |= {key: "" if row[key] is None else row[key] for key in ("answer", *PLACE) if "answer" in row}
    example = {key: row[key] for key in EXAMPLE if key in row}
    return {**example, **cells, **row.get("values", {}), **({"error": row["error"]} if "error" in row else {})}
