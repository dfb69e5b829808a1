"""Read the label cells of one row of a table into a text, the form in which a listing holds the label of an image.

* `single`: the name of the class.
* `multi` in one column: the names as they stand in the cell, until `names.index_names` knows all of them.
* `multi` in a column for each label: a character for each, `1`, `0`, or `?` where unknown.
* `value`: the values as float32 in their shortest form with spaces between, `nan` where unknown.
* `none`: an empty text.
* `tasks`: a JSON list with the text of each task, empty where its label is missing; of tags, a JSON list of them.

Equal labels have equal texts, whatever way their cells are written.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from effxfer.data.listing import first_names
from effxfer.data.settings import DataSettings

# What pandas and databases write for nothing.
NO_LABEL = frozenset({"", "nan", "null"})
# R writes NA. As a class name it may be meant: Namibia has the code NA.
NO_NUMBER = NO_LABEL | {"na"}
UNKNOWN = "?"
FLAGS = {"1": "1", "true": "1", "yes": "1", "0": "0", "false": "0", "no": "0"}
# A column of pandas with gaps holds floats.
FLAGS |= {f"{number}.0": number for number in ("1", "0")} | dict.fromkeys(NO_NUMBER | {"-1", "-1.0"}, UNKNOWN)
# Python's `float` also takes `1_000`, `infinity` and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

# Nine tell any two numbers of float32 apart; the fewest that do are the shortest form.
ENOUGH_DIGITS = (6, 7, 8, 9)
# From here on float64 rounds to infinity in float32, half a step above the largest number.
OVERFLOW = 2.0**128 - 2.0**103


class Problem(NamedTuple):
    """Why a row has no usable label."""

    code: str
    text: str
    hint: str


Reader = Callable[[Sequence[str]], str | Problem]


def label_reader(settings: DataSettings) -> Reader:
    """Return what reads the label cells of a row, in the order of `names_of_labels`, into a text or a problem."""
    if settings.tasks:
        return partial(read_tasks, settings.tasks)
    if settings.labels == "value":
        return partial(read_numbers, settings.names_of_labels)
    if settings.labels == "multi":
        return partial(read_flags, settings.names_of_labels) if settings.label_columns else _read_names
    return _read_nothing if settings.labels == "none" else _read_class


def _read_nothing(_cells: Sequence[str]) -> str:
    return ""


def _read_class(cells: Sequence[str]) -> str | Problem:
    (cell,) = cells
    if cell.casefold() in NO_LABEL:
        return Problem("E334", f"no label ({cell!r})", "label the image or remove the row")
    return cell


def _read_names(cells: Sequence[str]) -> str | Problem:
    (cell,) = cells
    if cell and cell.casefold() in NO_LABEL:
        hint = "leave the cell empty if no label applies, or remove the row"
        return Problem("E334", f"no label ({cell!r})", hint)
    if cell.startswith("[") and cell.endswith("]"):
        return Problem("E342", f"a list in brackets: {cell:.60}", "write the labels alone, such as `beach|dog`")
    return cell


def read_flags(names: Sequence[str], cells: Sequence[str]) -> str | Problem:
    """Read a cell for each label: 1, 0 or unknown."""
    flags = [FLAGS.get(cell.casefold(), "") for cell in cells]
    if all(flags):
        return "".join(flags)
    wrong = flags.index("")
    hint = "write 1 where it applies, 0 where not, nothing where unknown; a column of names is set by label_column"
    return Problem("E342", f"{names[wrong]!r} is {cells[wrong]!r:.60}, neither 1 nor 0", hint)


def read_numbers(names: Sequence[str], cells: Sequence[str]) -> str | Problem:
    """Read a cell for each value: a finite number, or unknown."""
    numbers = [_number(cell) for cell in cells]
    if wrong := [n for n, number in enumerate(numbers) if number is None]:
        name, cell = names[wrong[0]], cells[wrong[0]]
        hint = "write numbers with a point, such as 3.5 or 1e-3, and leave the cell empty where the value is unknown"
        return Problem("E342", f"{name!r} is {cell!r:.60}, no finite number", hint)
    if set(numbers) == {"nan"}:
        return Problem(
            "E334", f"no value in {first_names([repr(name) for name in names])}", "fill one in, or remove the row"
        )
    return " ".join(filter(None, numbers))


def _number(cell: str) -> str | None:
    """Return a number as float32 in its shortest form, `nan` if the cell holds nothing, None if it is no number."""
    if cell.casefold() in NO_NUMBER:
        return "nan"
    if not NUMBER.fullmatch(cell) or abs(float(cell)) >= OVERFLOW:
        return None
    number = np.float32(float(cell)) + np.float32(0)  # -0 is 0
    # Python's formats and not numpy's, whose exponents differ by version: the text is part of the data's digest.
    texts = (f"{number:.{digits}g}" for digits in ENOUGH_DIGITS)
    return next(text for text in texts if np.float32(text) == number)


def read_tasks(tasks: Mapping[str, str], cells: Sequence[str]) -> str | Problem:
    """Read a cell for each task; an empty one is a missing label, but one of them must be there."""
    texts = list[str]()
    for (name, kind), cell in zip(tasks.items(), cells, strict=True):
        text = _read_task(name, kind, cell)
        if isinstance(text, Problem):
            return text
        texts.append(text)
    if any(texts):
        return json.dumps(texts, ensure_ascii=False)
    return Problem(
        "E334", f"no label in {first_names([repr(name) for name in tasks])}", "fill one in, or remove the row"
    )


def _read_task(name: str, kind: str, cell: str) -> str | Problem:
    if cell.casefold() in NO_LABEL:
        return ""
    if kind == "single":
        return cell
    if kind == "multi":
        return _read_names([cell])
    if kind == "tags":
        return _read_tags(name, cell)
    text = read_numbers([name], [cell])
    return "" if isinstance(text, Problem) and text.code == "E334" else text


def _read_tags(name: str, cell: str) -> str | Problem:
    """Read tags with blanks between, or a JSON list of them."""
    try:
        tags = json.loads(cell) if cell.startswith("[") else cell.split()
    except (ValueError, RecursionError):
        tags = None
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        return Problem("E342", f"{name!r} is {cell:.60}, no tags", "write a tag for each word, such as O O B-city")
    return json.dumps(tags, ensure_ascii=False)


def count_tags(tasks: Mapping[str, str], label: str, words: int) -> Problem | None:
    """Return what is wrong with the tags of a text of so many words, in a label of `read_tasks`; None if nothing is."""
    for (name, kind), text in zip(tasks.items(), json.loads(label), strict=True):
        if kind == "tags" and text and (tags := len(json.loads(text))) != words:
            hint = "separate words by single blanks, as the tags are, and write a tag for each"
            return Problem("E342", f"{name!r} has {tags} tags for {words} words", hint)
    return None
