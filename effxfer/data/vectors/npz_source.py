"""Read vectors, their labels and splits from the arrays of a `.npz` file.

Shape legend: N vectors, D numbers of each, C labels or values.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.cells import UNKNOWN, Problem, read_flags, read_numbers
from effxfer.data.labels.names import index_names
from effxfer.data.listing import SPLIT_NAMES, Finding, LabelKind, first_names
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.runtime.outputs.multi_label import UNKNOWN as UNKNOWN_FLAG
from effxfer.runtime.vectors.array_file import read_arrays
from effxfer.runtime.vectors.vector_error import VectorError
from effxfer.runtime.vectors.vectors import FEATURES, LARGEST_WIDTH, to_float32

LABELS, SPLITS, CLASSES = "labels", "splits", "classes"
HINT = "save it with numpy.savez(file, features=..., labels=..., splits=..., classes=...)"
# As for tables and texts: about 300 bytes each in memory, 1.5 GB.
MOST_VECTORS = 5_000_000
UNIT = "vector"


class VectorArrays(NamedTuple):
    """The content of a file.

    Attributes:
        features: float32 `(N, D)`, finite but for rows that `bad` marks.
        labels: N texts, as `labels.cells` describes; empty without a label.
        splits: N names of splits, all empty if the file has none.
        classes: Names of labels or values; empty for single labels, whose names are those in use.
        findings: About labels and class names.
    """

    features: NDArray[np.float32]
    labels: list[str]
    splits: list[str]
    classes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Rows with NaN or infinity, `(N,)`."""
        finite: NDArray[np.bool_] = np.isfinite(self.features)
        return ~np.asarray(finite.all(1))


def read_labelled(settings: DataSettings, base: Path) -> VectorArrays:
    """Read features and labels.

    Args:
        settings: `source` and `labels` are used.
        base: Folder that a relative source starts from.

    Raises:
        DataError: `E360` to `E362` if the file cannot be used, `E334` for an unknown split, `E342` for a label that is
            none.
    """
    file = _path(settings.source, base)
    arrays = _read(file, (FEATURES, LABELS, SPLITS, CLASSES))
    features = _features(arrays, file)
    if LABELS not in arrays:
        text = f"{file} holds no array {LABELS!r}"
        raise DataError(text, f"add it, or name the file as `unlabelled`; {HINT}", code="E361")
    classes = _texts(arrays[CLASSES], CLASSES, file) if CLASSES in arrays else []
    if len(set(classes)) < len(classes) or "" in classes:
        raise DataError(f"{file} has empty or equal names among its classes", "give each its own name", code="E361")
    raw = arrays[LABELS]
    if len(raw) != len(features):
        raise DataError(f"{file} has {len(features)} features and {len(raw)} labels", HINT, code="E361")
    labels, names, findings = LABEL_READERS[settings.labels](raw, classes, file)
    return VectorArrays(features, labels, _splits(arrays, file, len(features)), names, tuple(findings))


def read_unlabelled(source: str, base: Path, width: int) -> VectorArrays:
    """Read features without labels, of a given width.

    Raises:
        DataError: `E360` to `E362` if the file cannot be used.
    """
    file = _path(source, base)
    features = _features(_read(file, (FEATURES,)), file)
    if features.shape[1] != width:
        text = f"{file} has vectors of {features.shape[1]} numbers, the labelled ones have {width}"
        raise DataError(text, "give features of the same kind", code="E361")
    return VectorArrays(features, [""] * len(features), [""] * len(features))


def _path(source: str, base: Path) -> Path:
    return base / os.path.expanduser(source)  # noqa: PTH111 (never raises)


def _read(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(file, names)
    except VectorError as error:
        raise DataError(error.problem, error.hint, code=error.code) from None


def _features(arrays: dict[str, NDArray[Any]], file: Path) -> NDArray[np.float32]:
    if FEATURES not in arrays:
        raise DataError(f"{file} holds no array {FEATURES!r}", HINT, code="E361")
    try:
        features = to_float32(arrays[FEATURES], f"{FEATURES} of {file}")
    except VectorError as error:
        raise DataError(error.problem, error.hint, code=error.code) from None
    if features.ndim != 2 or 0 in features.shape:
        text = f"{FEATURES} of {file} have the shape {features.shape}, not (N, D)"
        raise DataError(text, "flatten each example to one row", code="E361")
    if features.shape[1] > LARGEST_WIDTH or len(features) > MOST_VECTORS:
        text = f"{file} has {features.shape[0]} vectors of {features.shape[1]} numbers"
        hint = f"{MOST_VECTORS:,} of {LARGEST_WIDTH:,} are read at most: leave out columns or rows"
        raise DataError(text, hint, code="E362")
    return features


def _splits(arrays: dict[str, NDArray[Any]], file: Path, count: int) -> list[str]:
    if SPLITS not in arrays:
        return [""] * count
    names = _texts(arrays[SPLITS], SPLITS, file)
    split_of = {name: SPLIT_NAMES.get(name.lower(), "") for name in set(names)}
    if len(names) != count:
        raise DataError(f"{file} has {count} features and {len(names)} splits", HINT, code="E361")
    if "" in split_of.values():
        unknown = sorted(name for name, split in split_of.items() if not split)
        text = f"{file} has the unknown splits {first_names(list(map(repr, unknown)))}"
        raise DataError(text, f"one of {', '.join(SPLIT_NAMES)}", code="E334")
    return [split_of[name] for name in names]


def _texts(array: NDArray[Any], name: str, file: Path) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        text = f"{name} of {file} are {array.dtype} {array.shape}, no list of texts"
        raise DataError(text, "save numpy.array([...]) of texts", code="E361")
    try:
        return [one.decode() if isinstance(one, bytes) else one for one in array.tolist()]
    except UnicodeDecodeError:
        raise DataError(f"{name} of {file} are no UTF-8 text", "save them as text, not bytes", code="E361") from None


Labels = tuple[list[str], tuple[str, ...], list[Finding]]


def _single(raw: NDArray[Any], classes: Sequence[str], file: Path) -> Labels:
    if raw.dtype.kind in "US":
        return _texts(raw, LABELS, file), (), []
    if raw.ndim != 1 or raw.dtype.kind not in "biu":
        text = f"{LABELS} of {file} are {raw.dtype} {raw.shape}, no name or whole number for each vector"
        raise DataError(text, "set `data.labels` to multi or value, or save one class each", code="E361")
    largest, smallest = int(raw.max()), int(raw.min())
    if smallest < -1 or (classes and largest >= len(classes)):
        text = f"{LABELS} of {file} go from {smallest} to {largest}, there are {len(classes) or 'no'} class names"
        raise DataError(text, "number classes from 0, and write -1 where there is no label", code="E342")
    names = {number: classes[number] if classes else str(number) for number in set(raw.tolist()) if number >= 0}
    return [names.get(number, "") for number in raw.tolist()], (), []


def _multi(raw: NDArray[Any], classes: Sequence[str], file: Path) -> Labels:
    if raw.dtype.kind in "US":
        cells = _texts(raw, LABELS, file)
        texts, names, findings = index_names(cells, None, UNIT)
        return [texts[cell] for cell in cells], names, findings
    names = _columns(raw, classes, file)
    marks = {"0": "0", "1": "1", str(UNKNOWN_FLAG): "", "-1": "", "nan": ""}
    cells_of = [[marks.get(f"{float(x):g}", repr(x)) for x in row] for row in raw.tolist()]
    return _read_rows(lambda cells: read_flags(names, cells), cells_of, file), names, []


def _value(raw: NDArray[Any], classes: Sequence[str], file: Path) -> Labels:
    columns = raw[:, None] if raw.ndim == 1 else raw
    names = _columns(columns, classes or (["value"] if columns.shape[1:] == (1,) else ()), file)
    cells_of = [[repr(float(x)) for x in row] for row in columns.tolist()]
    return _read_rows(lambda cells: read_numbers(names, cells), cells_of, file), names, []


def _columns(raw: NDArray[Any], classes: Sequence[str], file: Path) -> tuple[str, ...]:
    """Return the name of each column of numbers `(N, C)`: those of the classes, or its number."""
    if raw.ndim != 2 or raw.dtype.kind not in "biuf" or (classes and raw.shape[1] != len(classes)):
        text = f"{LABELS} of {file} are {raw.dtype} {raw.shape}, there are {len(classes) or 'no'} names of columns"
        raise DataError(text, "save numbers (N, C), and C names as classes", code="E361")
    return tuple(classes) or tuple(map(str, range(raw.shape[1])))


def _read_rows(read: Callable[[Sequence[str]], str | Problem], rows: Sequence[Sequence[str]], file: Path) -> list[str]:
    """Read the label of each row; of an example without one, an empty text.

    Raises:
        DataError: With the first row that has a label of another form.
    """
    labels = []
    for row, cells in enumerate(rows):
        label = read(cells)
        if isinstance(label, Problem) and label.code != "E334":
            raise DataError(f"{file}:{row}: {label.text}", label.hint, code=label.code)
        labels.append("" if isinstance(label, Problem) or not label.strip(UNKNOWN) else label)
    return labels


LABEL_READERS: dict[LabelKind, Callable[[NDArray[Any], Sequence[str], Path], Labels]] = {
    "multi": _multi, "single": _single, "value": _value,
}  # fmt: skip
