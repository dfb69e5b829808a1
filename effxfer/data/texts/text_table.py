"""Read a table with a column of texts, perhaps one of second texts, and one or several of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from effxfer.data.labels.cells import Problem, count_tags, label_reader
from effxfer.data.listing import SPLIT_NAMES, Finding, Text
from effxfer.data.settings import SPLIT, DataSettings
from effxfer.data.sources.rows import Columns, label_roles, read_columns
from effxfer.data.texts.examples import Example, TextListing, limit_findings, line_finding
from effxfer.runtime.text.tokens import LONGEST_TEXT

NAME_HINT = "name them with text_column, pair_column, label_column and split_column, or add a header line"
FILL_IN = "label the text or remove the row"


class _Row(NamedTuple):
    """A row's number, its example, and why it cannot be used."""

    number: int
    example: Example
    problem: Problem | None


def read_text_table(file: Path, settings: DataSettings) -> TextListing:
    """Read a `.csv`, `.tsv` or `.parquet` table, as a table of images is read.

    Args:
        file: The table.
        settings: Columns, `labels` and `skip_bad` are used.

    Returns:
        Examples, with findings: `E334` or `E342` for a row without a usable label or with an unknown split, and those
        of tables. Labels of other kinds than single ones are texts of `labels.cells`. Where a task tags words, these
        are what blanks separate.

    Raises:
        DataError: `E310`, `E330` or `E331` if it is absent, no table, or lacks a column.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    rows, findings = read_columns(file, _columns(file, settings))
    examples, problems = list[Example](), list[Finding]()
    for number, example, problem in rows:
        if problem:
            code, text, hint = problem
            problems.append(line_finding(code, file.name, number, text, hint, skip_bad=settings.skip_bad))
            limit_findings(problems, file)
        else:
            examples.append(example._replace(split=SPLIT_NAMES.get(example.split.lower(), "")))
    return TextListing(examples, [*problems, *findings])


def _columns(file: Path, settings: DataSettings) -> Columns[_Row]:
    labels, read_label = label_roles(settings), label_reader(settings)
    names = {"text": settings.text_column, **labels, "split": settings.split_column}
    names |= {"pair": settings.pair_column} if settings.pair_column else {}

    def make(number: int, cells: Sequence[str]) -> _Row:
        text, *following = cells
        label, (split, *pair) = read_label(following[: len(labels)]), following[len(labels) :]
        words = text.split()
        if settings.tagged_tasks and isinstance(label, str):
            label = count_tags(settings.tasks, label, len(words)) or label
        wrong = isinstance(label, Problem)
        source: Text = (text, pair[0]) if pair else words if settings.tagged_tasks else text
        example = Example(source, "" if wrong else label, f"{file.name}:{number}", split)
        return _Row(number, example, _problem(label, split, settings))

    optional = {"split"} if settings.split_column == SPLIT else set[str]()
    return Columns(names=names, make=make, optional=optional, hint=NAME_HINT, longest=LONGEST_TEXT)


def _problem(label: str | Problem, split: str, settings: DataSettings) -> Problem | None:
    """Return why a row cannot be used; None if it can."""
    if isinstance(label, Problem):
        return label._replace(hint=FILL_IN) if settings.labels == "single" else label
    if split and split.lower() not in SPLIT_NAMES:
        return Problem("E334", f"unknown split {split!r:.60}", f"one of {', '.join(SPLIT_NAMES)}")
    return None
