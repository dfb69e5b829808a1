"""Tables of image paths and labels: which rows are images, and what is wrong with the others.

Paths are relative to the table's folder, or to another one that the settings name.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from effxfer.data.listing import SPLIT_NAMES, Finding, Found, Item, counted, some
from effxfer.data.settings import DataSettings
from effxfer.data.sources.folder import collisions
from effxfer.data.sources.rows import Row, read_rows
from effxfer.errors import DataError

NO_LABEL = frozenset({"", "nan", "null"})


def read_table(file: Path, settings: DataSettings, root: Path | None = None) -> Found:
    """List the images of a table with a path, a label and optionally a split column.

    A CSV file may start with a byte order mark, end its lines as it likes, and be separated by comma, semicolon, tab
    or bar, which its header line decides. Labels are names: `1` is the class "1". Backslashes separate folders where
    the file lies there.

    Args:
        file: `.csv`, `.tsv` or `.parquet`.
        settings: Column names.
        root: Folder that holds the images; None is the table's.

    Raises:
        DataError: `E310` without rows, `E330` if it is not one table, `E331` without a needed column.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    rows, odd = read_rows(file, settings)
    if not rows:
        raise DataError(f"{file} has a header and no rows", "add a row for each image", code="E310")
    items, findings = _checked(rows, root or file.parent)
    return Found(items, [*findings, *odd])


def _checked(rows: Sequence[Row], root: Path) -> Found:
    places = _places(rows, root)
    findings = [finding for row in rows for finding in _row_findings(row, places[row.path])]
    good = [row for row in rows if not _row_findings(row, places[row.path])]
    placed = [row for row in good if row.split] or good  # of rows without a split beside others, nothing can be said
    items = [Item(places[row.path] or "", row.label, SPLIT_NAMES.get(row.split.lower(), "")) for row in placed]
    findings += [*_repeated(good, places), *_partly_split(good), *_backslashes(places), *_through_links(items, root)]
    unique = list({item.path: item for item in items}.values())
    return Found(unique, [*findings, *_numeric({i.label for i in items}), *collisions({i.label for i in items})])


def _places(rows: Iterable[Row], root: Path) -> dict[str, str | None]:
    """Give each path relative to `root` without `..`, or None where it leads out of it."""
    base = os.path.abspath(root)  # noqa: PTH100 (resolve() would follow links, which are allowed here)
    bases = [base.rstrip("/"), os.path.realpath(root).rstrip("/")]
    return {row.path: _place(row.path, bases) for row in rows}


def _place(path: str, bases: Sequence[str]) -> str | None:
    place = _inside(path, bases)
    if "\\" not in path or (place and os.path.lexists(f"{bases[0]}/{place}")):
        return place
    turned = _inside(path.replace("\\", "/"), bases)
    return turned if turned and os.path.lexists(f"{bases[0]}/{turned}") else place


def _inside(path: str, bases: Sequence[str]) -> str | None:
    full = os.path.normpath(path if path.startswith("/") else f"{bases[0]}/{path}")
    return next((full[len(base) + 1 :] for base in bases if full.startswith(f"{base}/")), None)


def _backslashes(places: Mapping[str, str | None]) -> list[Finding]:
    turned = [path for path, place in places.items() if "\\" in path and place and "\\" not in place]
    text = f"backslashes taken as folder separators: {counted(turned)}" if turned else ""
    return [Finding(code="W333", severity="note", path="", text=text)] if turned else []


def _through_links(items: Iterable[Item], root: Path) -> list[Finding]:
    """Say which images lie outside of the root, behind links: of folders, each once, or of the files themselves."""
    base, real, findings = os.path.realpath(root).rstrip("/"), dict[str, str](), list[Finding]()
    for item in items:
        folder, _, name = item.path.rpartition("/")
        if folder not in real:
            real[folder] = os.path.realpath(f"{root}/{folder}")
            findings += _outside(real[folder], folder, base)
        file = f"{real[folder]}/{name}"
        if os.path.islink(file):  # noqa: PTH114 (a third of the time, and there may be millions)
            findings += _outside(os.path.realpath(file), item.path, base)
    return findings


def _outside(real: str, path: str, base: str) -> list[Finding]:
    text = "link to outside of the data folder, followed"
    inside = f"{real}/".startswith(f"{base}/")
    return [] if inside else [Finding(code="W317", severity="warning", path=path, text=text)]


def _row_findings(row: Row, place: str | None) -> list[Finding]:
    found = []
    if place is None:
        hint = "give paths relative to the table's folder, or name the images' folder: `data.root=DIR`"
        found.append(_error("E335", row, "path leads out of the folder of the images", hint))
    if not row.path or "\0" in row.path:
        found = [_error("E333", row, "no path" if not row.path else "path with a NUL byte", "correct the path column")]
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
            text = f"one file with the labels {some([repr(label) for label in labels])}"
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
        for names in (some([repr(name) for name in group]) for group in equal)
    ]
