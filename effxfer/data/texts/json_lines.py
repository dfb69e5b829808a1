"""Read lines of JSON objects with a text, or words, and a label, tags, or the labels of several tasks."""

import json
from pathlib import Path
from typing import Any

from effxfer.data.labels.cells import Problem, count_tags, read_tasks
from effxfer.data.listing import SPLIT_NAMES, Finding, Text
from effxfer.data.settings import DataSettings
from effxfer.data.texts.examples import Example, Label, TextListing, limit_examples, limit_findings, line_finding
from effxfer.data.texts.numbered_lines import numbered_lines

SHAPES = {"multi": "a list of names", "single": "a name", "tags": "a list of a tag for each word", "value": "a number"}
HINT = 'give each line an object such as {"text": "...", "label": "..."}; text_column and label_column name its fields'
NAME_HINT = 'labels are texts, whole numbers, true or false: quote a name of a class such as "1.5"'


def read_json_lines(file: Path, settings: DataSettings) -> TextListing:
    """Read a file with an object in each line.

    A text is a string; a list of strings is read as words, whose label is a list of as many tags. Other labels are
    strings, whole numbers, true or false; numbers are names of classes. Of several tasks, each has a field of its name:
    a string, a number, or a list of labels or tags; without it, or with null, its label is missing.

    Args:
        file: The file.
        settings: Columns, `encoding` and `skip_bad` are used.

    Returns:
        Examples, with findings: `E351` for a line of another form, `E334` for one without a label or a known split,
        `E342` for labels of a task that cannot be used.

    Raises:
        DataError: `E310`, `E350` or `E352` if the file is absent, not text or too large.
    """
    examples, findings = list[Example](), list[Finding]()
    for number, line in numbered_lines(file, settings.encoding):
        if not line.strip():
            continue
        try:
            examples.append(_example(_parse(line), f"{file.name}:{number}", settings))
        except _LineError as error:
            problem = line_finding(error.code, file.name, number, str(error), error.hint, skip_bad=settings.skip_bad)
            findings.append(problem)
            limit_findings(findings, file)
        limit_examples(len(examples), file)
    return TextListing(examples, findings)


class _LineError(ValueError):
    """A line that cannot be used."""

    def __init__(self, problem: str, code: str = "E351", hint: str = HINT) -> None:
        super().__init__(problem)
        self.code, self.hint = code, hint


def _parse(line: str) -> dict[str, Any]:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        raise _LineError("no JSON") from None
    if not isinstance(raw, dict):
        raise _LineError("no JSON object")
    return raw


def _example(raw: dict[str, Any], name: str, settings: DataSettings) -> Example:
    source = _source(raw, settings)
    split = raw.get(settings.split_column, "")
    if split and (not isinstance(split, str) or split.lower() not in SPLIT_NAMES):
        raise _LineError(f"unknown split {split!r:.60}", "E334")
    if settings.tasks:
        return Example(*_tasks(source, raw, settings), name, SPLIT_NAMES[split.lower()] if split else "")
    label = "" if settings.labels == "none" else _label(raw.get(settings.label_column), settings.label_column)
    if isinstance(source, list) != isinstance(label, tuple) or (isinstance(source, list) and len(source) != len(label)):
        raise _LineError("words need a list of as many tags, and tags a list of words")
    return Example(source, label, name, SPLIT_NAMES[split.lower()] if split else "")


def _tasks(source: Text, raw: dict[str, Any], settings: DataSettings) -> tuple[Text, str]:
    """Return the source, as words where a task tags them, and the labels of all tasks as `labels.cells` has them."""
    cells = [_cell(raw.get(name), name, kind) for name, kind in settings.tasks.items()]
    label = read_tasks(settings.tasks, cells)
    if isinstance(source, str) and settings.tagged_tasks:
        source = source.split()
    if isinstance(label, str):
        label = count_tags(settings.tasks, label, len(source)) or label
    if isinstance(label, Problem):
        raise _LineError(label.text, label.code, label.hint)
    return source, label


def _cell(raw: Any, name: str, kind: str) -> str:
    """Return a value as the cell of a table has it."""
    if raw is None:
        return ""
    if kind == "tags" and isinstance(raw, list):
        return json.dumps(raw)
    if kind == "multi" and isinstance(raw, list) and all(isinstance(label, str) for label in raw):
        return "|".join(raw) or "|"  # a bar alone says that no label applies
    if isinstance(raw, bool):
        return str(raw).lower()
    if not isinstance(raw, str | int | float):
        raise _LineError(f"{name!r} holds no label of kind {kind!r}", "E342", f"labels of {kind!r}: {SHAPES[kind]}")
    return str(raw).strip()


def _source(raw: dict[str, Any], settings: DataSettings) -> Text:
    text = raw.get(settings.text_column)
    if settings.pair_column is None and isinstance(text, list) and all(isinstance(word, str) for word in text):
        return text
    if not isinstance(text, str):
        raise _LineError(f"no text in {settings.text_column!r}")
    if settings.pair_column is None:
        return text.strip()
    pair = raw.get(settings.pair_column)
    if not isinstance(pair, str):
        raise _LineError(f"no text in {settings.pair_column!r}")
    return text.strip(), pair.strip()


def _label(raw: Any, name: str) -> Label:
    if isinstance(raw, list) and all(isinstance(tag, str) for tag in raw):
        return tuple(raw)
    if isinstance(raw, bool):
        return str(raw).lower()
    if not isinstance(raw, str | int) or not str(raw).strip():
        text = f"no label in {name!r}" if raw is None or isinstance(raw, str) else f"{name!r} is {raw!r:.60}, no name"
        raise _LineError(text, "E334", HINT if raw is None else NAME_HINT)
    return str(raw).strip()
