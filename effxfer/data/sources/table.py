"""List the images of a table of paths and labels, and report invalid rows.

Paths are relative to the table's folder, or to `root` in the settings.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from effxfer.data.checks.class_names import check_names
from effxfer.data.labels.arrays import describe_label
from effxfer.data.labels.names import index_names
from effxfer.data.labels.tasks import name_task_labels
from effxfer.data.listing import SPLIT_NAMES, Finding, Item, SourceListing, count_paths, first_names
from effxfer.data.settings import DataSettings
from effxfer.data.sources.rows import Row, read_rows
from effxfer.errors import DataError


def read_table(file: Path, settings: DataSettings, root: Path | None = None) -> SourceListing:
    """List the images of a table with a path, labels and optionally a split column.

    A CSV file may have a byte order mark and any line ends; its header decides between comma, semicolon, tab and bar
    as separator. Labels are names: `1` is the class "1". Backslashes are folder separators if the file exists there.

    Args:
        file: `.csv`, `.tsv` or `.parquet`.
        settings: Column names.
        root: Folder that holds the images; None for the table's.

    Raises:
        DataError: `E310` without rows, `E330` if it is not a table, `E331` if a required column is missing, `E342` if
            labels cannot be told apart.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    rows, row_findings = read_rows(file, settings)
    if not rows:
        raise DataError(f"{file} has a header and no rows", "add a row for each image", code="E310")
    listing = _check_rows(rows, root or file.parent, settings)
    return listing._replace(findings=[*listing.findings, *row_findings])


def _check_rows(rows: Sequence[Row], root: Path, settings: DataSettings) -> SourceListing:
    places = _relative_paths(rows, root)
    findings = [finding for row in rows for finding in _row_findings(row, places[row.path])]
    valid = [row for row in rows if not _row_findings(row, places[row.path])]
    valid, classes, name_findings = _name_labels(valid, settings)
    assigned = [row for row in valid if row.split] or valid  # rows without a split beside rows with one are errors
    items = [Item(places[row.path] or "", row.label, SPLIT_NAMES.get(row.split.lower(), "")) for row in assigned]
    findings += [
        *_find_repeated(valid, places, partial(describe_label, settings.labels, classes=classes)),
        *_find_partial_splits(valid),
        *_note_backslashes(places),
        *_find_outside_links(items, root),
    ]
    unique = list({item.path: item for item in items}.values())
    every = [*findings, *name_findings, *_check_names(items, classes, settings)]
    return SourceListing(unique, every, classes, _join_captions(assigned, places))


def _join_captions(rows: Iterable[Row], places: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Return the captions of each image by its path; none if the table has none."""
    captions = defaultdict[str, tuple[str, ...]](tuple)
    for row in rows:
        if row.caption:
            captions[places[row.path] or ""] += (row.caption,)
    return dict(captions)


def _name_labels(rows: list[Row], settings: DataSettings) -> tuple[list[Row], tuple[str, ...], list[Finding]]:
    """Return the rows, the names of labels or values (of classes none, as only those in use count), and findings."""
    if settings.labels in ("single", "none"):
        return rows, (), []
    if settings.tasks:
        labels, columns, findings = name_task_labels([row.label for row in rows], settings.tasks)
        return [row._replace(label=label) for row, label in zip(rows, labels, strict=True)], columns, findings
    if settings.labels == "value" or settings.label_columns or not rows:
        return rows, settings.names_of_labels, []
    texts, classes, findings = index_names([row.label for row in rows], settings.label_separator)
    return [row._replace(label=texts[row.label]) for row in rows], classes, findings


def _check_names(items: Iterable[Item], classes: Sequence[str], settings: DataSettings) -> list[Finding]:
    names = {item.label for item in items} if settings.labels == "single" else set(classes)
    return check_names(names, settings.labels)


def _relative_paths(rows: Iterable[Row], root: Path) -> dict[str, str | None]:
    """Map each path to its path relative to `root` without `..`, or None if it lies outside."""
    base = os.path.abspath(root)  # noqa: PTH100 (resolve() would follow links, which are allowed here)
    bases = [base.rstrip("/"), os.path.realpath(root).rstrip("/")]
    return {row.path: _relative_path(row.path, bases) for row in rows}


def _relative_path(path: str, bases: Sequence[str]) -> str | None:
    relative = _path_below(path, bases)
    # A backslash is a legal letter of a name on Linux: what exists as written is taken as written.
    if "\\" not in path or (relative and os.path.lexists(f"{bases[0]}/{relative}")):
        return relative
    converted = _path_below(path.replace("\\", "/"), bases)
    return converted if converted and os.path.lexists(f"{bases[0]}/{converted}") else relative


def _path_below(path: str, bases: Sequence[str]) -> str | None:
    # By text, since `resolve` would follow links, and links to elsewhere are allowed.
    full = os.path.normpath(path if path.startswith("/") else f"{bases[0]}/{path}")
    return next((full[len(base) + 1 :] for base in bases if full.startswith(f"{base}/")), None)


def _note_backslashes(places: Mapping[str, str | None]) -> list[Finding]:
    turned = [path for path, place in places.items() if "\\" in path and place and "\\" not in place]
    text = f"backslashes taken as folder separators: {count_paths(turned)}" if turned else ""
    return [Finding(code="W333", severity="note", path="", text=text)] if turned else []


def _find_outside_links(items: Iterable[Item], root: Path) -> list[Finding]:
    """Warn about images outside the root, behind links to folders (each once) or to files."""
    base, real, findings = os.path.realpath(root).rstrip("/"), dict[str, str](), list[Finding]()
    for item in items:
        folder, _, name = item.path.rpartition("/")
        if folder not in real:
            real[folder] = os.path.realpath(f"{root}/{folder}")
            findings += _check_outside(real[folder], folder, base)
        file = f"{real[folder]}/{name}"
        if os.path.islink(file):  # noqa: PTH114 (takes a third of the time; there may be millions)
            findings += _check_outside(os.path.realpath(file), item.path, base)
    return findings


def _check_outside(real: str, path: str, base: str) -> list[Finding]:
    text = "link to outside of the data folder, followed"
    inside = f"{real}/".startswith(f"{base}/")
    return [] if inside else [Finding(code="W317", severity="warning", path=path, text=text)]


def _row_findings(row: Row, place: str | None) -> list[Finding]:
    findings = []
    if place is None:
        hint = "give paths relative to the table's folder, or name the images' folder: `data.root=DIR`"
        findings.append(_error("E335", row, "path leads out of the folder of the images", hint))
    if not row.path or "\0" in row.path:
        findings = [
            _error("E333", row, "no path" if not row.path else "path with a NUL byte", "correct the path column")
        ]
    if row.problem:
        findings.append(_error(row.problem.code, row, row.problem.text, row.problem.hint))
    if row.split and row.split.lower() not in SPLIT_NAMES:
        findings.append(_error("E334", row, f"unknown split {row.split!r}", f"one of {', '.join(SPLIT_NAMES)}"))
    return findings


def _error(code: str, row: Row, text: str, hint: str) -> Finding:
    return Finding(code=code, severity="error", path=row.path, text=f"row {row.number}: {text}", hint=hint)


def _find_repeated(
    rows: Iterable[Row], places: Mapping[str, str | None], describe: Callable[[str], str]
) -> list[Finding]:
    groups = defaultdict(list)
    for row in rows:
        groups[places[row.path]].append(row)
    findings = []
    for members in groups.values():
        labels = sorted({row.label for row in members})
        if len(labels) > 1:
            text = f"one file with the labels {first_names([repr(describe(label)) for label in labels])}"
            findings.append(_error("E336", members[1], text, "keep one row for each image"))
        elif len({row.split.lower() for row in members}) > 1:
            text = f"one file in the splits {first_names(sorted({repr(row.split) for row in members}))}"
            findings.append(_error("E346", members[1], text, "put all captions of an image into one split"))
        elif len({row.caption for row in members}) < len(members):
            text = f"the same file as in row {members[0].number}"
            findings.append(_error("E332", members[1], text, "keep one row for each image"))
    return findings


def _find_partial_splits(rows: Sequence[Row]) -> list[Finding]:
    without = [row for row in rows if not row.split]
    if not without or len(without) == len(rows):
        return []
    return [_error("E334", row, "no split, while other rows have one", "fill the split column") for row in without]
