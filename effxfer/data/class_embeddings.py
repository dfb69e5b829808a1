"""What is known of classes beside their examples: attributes, word vectors or sentence embeddings, and their audit.

Findings are `W370` columns that are the same for all classes with examples, `W371` classes with equal rows.

Shape legend: C classes, E numbers of each.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.data.listing import Finding, Listing, first_names, notes_of
from effxfer.data.task import Task
from effxfer.data.word_vectors import embed_names
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.class_tables.class_table import ClassTable, join_names, read_class_table, require_distinct
from effxfer.runtime.class_tables.class_table_error import ClassTableError

TABLE = ".csv"
NEEDED = "name a table of classes or a file of word vectors as data.class_embeddings"


def join_class_embeddings(listing: Listing, source: str, base: Path, new_classes: Sequence[str]) -> Listing:
    """Join a listing with the rows of its classes, and of new classes of its target; see `read_class_embeddings`."""
    table = read_class_embeddings(source, base, listing.classes, new_classes)
    findings = (*listing.findings, *_audit(table, len(listing.classes)))
    return replace(listing, findings=findings, notes=notes_of(findings), class_embeddings=table)


def read_class_embeddings(
    source: str, base: Path, classes: Sequence[str], new_classes: Sequence[str] = ()
) -> ClassTable:
    """Read the rows of classes from a table, or look up the words of their names.

    Args:
        source: A `.csv` file, see `read_class_table`; else a file of word vectors, see `embed_names`.
        base: Folder that a relative source starts from.
        classes: Classes of the task, C.
        new_classes: Classes of the target that the task does not have.

    Raises:
        DataError: `E370` to `E373`, as `ClassTableError`.
    """
    file = base / os.path.expanduser(source)  # noqa: PTH111 (never raises)
    names = (*classes, *new_classes)
    try:
        if file.suffix.lower() != TABLE:
            require_distinct(names)
            table = embed_names(names, file)
        else:
            every = read_class_table(file)
            # Names of the data that differ in case alone would need rows that do, which a table may not have.
            table = every.select(names)
    except ClassTableError as error:
        problem = error.problem if str(file) in error.problem else f"{file}: {error.problem}"
        raise DataError(problem, error.hint, code=error.code) from None
    return table


def with_class_embeddings(task: Task, table: ClassTable | None) -> Task:
    """Return a task, and its target, with the rows of their classes."""
    if table is None:
        return task
    target = task.target and replace(task.target, class_embeddings=table.select(task.target.classes).values)
    return replace(task, class_embeddings=table.select(task.classes).values, target=target)


def require_class_embeddings(task: Task) -> NDArray[np.float32]:
    """Return the rows of a task's classes, float32 `(C, E)`.

    Raises:
        SettingsError: If there are none.
    """
    if task.class_embeddings is None:
        raise SettingsError(f"{task.name} says nothing about its classes", NEEDED)
    return task.class_embeddings


def _audit(table: ClassTable, known_count: int) -> list[Finding]:
    findings, values = list[Finding](), table.values
    constant = np.flatnonzero((values[:known_count] == values[:1]).all(0))
    if len(constant) == table.width:
        text = "all classes with examples have the same class embedding"
        raise DataError(text, "give numbers that tell classes apart", code="E373")
    if len(constant):
        text = f"{len(constant)} of {table.width} columns of class_embeddings are the same for all known classes"
        text += f": {first_names([*map(str, constant)])}"
        findings.append(Finding(code="W370", severity="warning", path="", text=text, hint="leave them out"))
    rows = dict[bytes, list[str]]()
    for name, row in zip(table.names, values, strict=True):
        rows.setdefault(row.tobytes(), []).append(name)
    for names in rows.values():
        if len(names) > 1:
            text = f"equal rows of class_embeddings, so that nothing tells these classes apart: {join_names(names)}"
            findings.append(Finding(code="W371", severity="warning", path="", text=text, hint="add a column"))
    return findings
