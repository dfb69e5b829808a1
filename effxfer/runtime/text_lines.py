"""Read texts from a file, one in each line: plain, two with a tab between them, or JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from effxfer.runtime.reading import TooLargeError, read_regular
from effxfer.runtime.text.errors import TextError

LARGEST_FILE = 256_000_000
JSON_SUFFIXES = (".jsonl", ".ndjson")
STANDARD_INPUT = Path("-")
FORM = 'write a text, or {"text": ..., "other": ...}, in each line'


def read_texts(file: Path, *, pairs: bool = False, as_json: bool = False) -> list[str | tuple[str, str]]:
    """Read the lines of a file, or of standard input for `-`.

    Args:
        file: UTF-8, at most 256 MB. Lines of `.jsonl` and `.ndjson` files are JSON.
        pairs: A line holds two texts with a tab between them; a line of JSON names them or lists them.
        as_json: Lines are JSON whatever the file is called: a text, a list of two, or a table of `text` and `other`.

    Returns:
        A text for each line, also for empty ones; pairs of texts for pairs.

    Raises:
        TextError: If the file cannot be read, or a line is not what it should be (`E350`); if it is too large (`E352`).
    """
    content = _read(file)
    lines = content.removesuffix("\n").split("\n") if content else []
    parse = _from_json if as_json or file.suffix.lower() in JSON_SUFFIXES else _from_line
    texts = []
    for number, line in enumerate(lines, 1):
        fields = parse(line.removesuffix("\r"), pairs)
        if fields is None:
            text = f"line {number} of {file} is not {'a pair of texts' if pairs else 'a text'}: {line:.60}"
            raise TextError(text, "put a tab between both texts" if parse is _from_line else FORM, code="E350")
        texts.append((fields[0], fields[1]) if pairs else fields[0])
    return texts


def _from_line(line: str, pairs: bool) -> list[str] | None:
    if not pairs:
        return [line]
    fields = line.split("\t")
    return fields if len(fields) == 2 else None


def _from_json(line: str, pairs: bool) -> list[str] | None:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields: list[Any] = [raw]
    if isinstance(raw, dict):
        fields = [raw[name] for name in ("text", "other")[: 1 + pairs] if name in raw]
    elif isinstance(raw, list):
        fields = raw
    return fields if len(fields) == 1 + pairs and all(isinstance(text, str) for text in fields) else None


def _read(file: Path) -> str:
    try:
        data = _read_standard_input() if file == STANDARD_INPUT else read_regular(file, LARGEST_FILE)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = f"{file} is not UTF-8 text: {error.reason} at byte {error.start}"
        raise TextError(text, "save it as UTF-8", code="E350") from None
    except TooLargeError as error:
        raise TextError(f"{file}: {error.strerror}", "cut it into several files", code="E352") from None
    except OSError as error:
        raise TextError(f"{file} cannot be read: {error.strerror}", "name a file of texts", code="E350") from None


def _read_standard_input() -> bytes:
    data = sys.stdin.buffer.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise TooLargeError(f"more than {LARGEST_FILE / 1e6:.0f} MB")
    return data
