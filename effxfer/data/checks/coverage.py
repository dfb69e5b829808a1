"""Check several labels and values across splits: what no split should lack, and columns that say nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.labels.arrays import label_array, output_of
from effxfer.data.listing import SPLITS, Finding, Item, LabelKind, Severity, count_paths, first_names
from effxfer.errors import DataError
from effxfer.runtime.outputs.multi_label import UNKNOWN


def check_coverage(
    items: Sequence[Item], kind: LabelKind, classes: tuple[str, ...], unit: str = "image"
) -> list[Finding]:  # fmt: skip
    """Check the labels of all splits.

    * `multi`: labels that apply to no image of a split (W313), are 1 or unknown and never 0 (E343), or 1 everywhere
      (W342); images of which nothing is known (W342).
    * `value`: columns with fewer than two different values in train (E343), or in val or test (W313).

    Args:
        items: Images with their final split.
        kind: Kind of label; of single labels, `find_class_gaps` checks more.
        classes: Names of the head's columns.
        unit: What an item is, in the singular.
    """
    if kind in ("single", "none") or not items:
        return []
    labels = {split: [item for item in items if item.split == split] for split in SPLITS}
    arrays = {split: label_array(kind, [i.label for i in members], classes) for split, members in labels.items()}
    return _check_values(arrays, classes) if kind == "value" else _check_flags(arrays, classes, items, unit)


def _check_flags(
    arrays: Mapping[str, NDArray[Any]], classes: Sequence[str], items: Sequence[Item], unit: str
) -> list[Finding]:
    absent = {split: ~(flags == 1).any(0) for split, flags in arrays.items() if len(flags)}
    findings = [
        _finding("W313", f"labels that apply to no {unit} of {split}: {_names(classes, columns)}")
        for split, columns in absent.items()
        if columns.any()
    ]
    total = np.concatenate(list(arrays.values()))
    unknown, always = total == UNKNOWN, ~(total == 0).any(0) & (total == 1).any(0)
    if (never := always & unknown.any(0)).any():
        text = f"labels that are never 0: {_names(classes, never)}; empty and -1 mean unknown"
        hint = "write 0 where a label does not apply, or leave the column out"
        findings.append(_finding("E343", text, hint, "error"))
    if (always & ~never).any():
        findings.append(_finding("W342", f"labels that apply to every {unit}: {_names(classes, always & ~never)}"))
    if blank := [item.path for item in items if not item.label.strip("?")]:
        findings.append(_finding("W342", f"{unit}s of which no label is known: {count_paths(blank)}"))
    return findings


def _check_values(arrays: Mapping[str, NDArray[Any]], classes: tuple[str, ...]) -> list[Finding]:
    findings = []
    try:
        output_of("value", classes, arrays["train"])
    except DataError as error:
        findings += [_finding(error.code, error.problem, error.hint, "error")] if len(arrays["train"]) else []
    for split in ("val", "test"):
        few = np.array([len(np.unique(column[~np.isnan(column)])) < 2 for column in arrays[split].T])
        if len(arrays[split]) and few.any():
            text = f"fewer than two different values in {split}, so that R2 says nothing: {_names(classes, few)}"
            findings.append(_finding("W313", text))
    return findings


def _names(classes: Sequence[str], columns: NDArray[np.bool_]) -> str:
    return first_names([repr(name) for name, named in zip(classes, columns, strict=True) if named])


def _finding(code: str, text: str, hint: str = "", severity: Severity = "warning") -> Finding:
    return Finding(code=code, severity=severity, path="", text=text, hint=hint)
