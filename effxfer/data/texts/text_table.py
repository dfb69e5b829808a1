"""Read a table with a column of texts, perhaps one of second texts, and one of labels."""

from collections.abc import Sequence
from pathlib import Path

from effxfer.data.listing import SPLIT_NAMES, Finding
from effxfer.data.sources.rows import Columns, read_columns
from effxfer.data.texts.examples import Example, TextListing, limit_findings, line_finding
from effxfer.data.texts.text_settings import TextSettings
from effxfer.runtime.text.tokens import LONGEST_TEXT

NAME_HINT = "name them with text_column, pair_column, label_column and split_column, or add a header line"
NO_LABEL = frozenset({"", "nan", "null"})
DEFAULT_SPLIT = TextSettings.model_fields["split_column"].default


def read_text_table(file: Path, settings: TextSettings) -> TextListing:
    """Read a `.csv`, `.tsv` or `.parquet` table, as a table of images is read.

    Args:
        file: The table.
        settings: Columns and `skip_bad` are used.

    Returns:
        Examples, with findings: `E334` for a row without a label or with an unknown split, and those of tables.

    Raises:
        DataError: `E310`, `E330` or `E331` if it is absent, no table, or lacks a column.
        ResourceError: If it is Parquet and pyarrow is not installed.
    """
    rows, findings = read_columns(file, _columns(file, settings))
    examples, problems = list[Example](), list[Finding]()
    for number, example in rows:
        if problem := _problem(example):
            hint = "label the text or remove the row; splits are train, val and test"
            problems.append(line_finding("E334", file.name, number, problem, hint, skip_bad=settings.skip_bad))
            limit_findings(problems, file)
        else:
            examples.append(example._replace(split=SPLIT_NAMES.get(example.split.lower(), "")))
    return TextListing(examples, [*problems, *findings])


def _columns(file: Path, settings: TextSettings) -> Columns[tuple[int, Example]]:
    names = {"text": settings.text_column, "label": settings.label_column, "split": settings.split_column}
    names |= {"pair": settings.pair_column} if settings.pair_column else {}

    def make(number: int, cells: Sequence[str]) -> tuple[int, Example]:
        text, label, split, *pair = cells
        return number, Example((text, pair[0]) if pair else text, label, f"{file.name}:{number}", split)

    optional = {"split"} if settings.split_column == DEFAULT_SPLIT else set[str]()
    return Columns(names=names, make=make, optional=optional, hint=NAME_HINT, longest=LONGEST_TEXT)


def _problem(example: Example) -> str:
    """Return why a row cannot be used; an empty text if it can."""
    label = str(example.label)
    if label.casefold() in NO_LABEL:
        return f"no label ({label!r})"
    if example.split and example.split.lower() not in SPLIT_NAMES:
        return f"unknown split {example.split!r:.60}"
    return ""
