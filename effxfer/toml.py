"""TOML as people write it, within limits: what is beyond all use is refused at once, and not after minutes.

Python's reader takes a time that grows with the square of a key's parts, and integers of any size.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effxfer.errors import SettingsError
from effxfer.runtime.reading import TooLargeError, UnfitFileError, read_regular

MAX_BYTES = 1_000_000
MAX_DEPTH = 20  # tables within tables; settings go 4 deep
MAX_VALUES = 20_000
WORD = 64  # bits of an integer, as TOML has it
_STRINGS = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?(?:"""|\Z)' r"|'''[\s\S]*?(?:'''|\Z)" r'|"(?:\\.|[^"\\\n])*"?' r"|'[^'\n]*'?" r"|#[^\n]*"
)


def read_toml(file: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        SettingsError: If it is absent, no regular file, larger than 1 MB (E212), empty (E206), not TOML, or more than
            settings need (E205); a syntax error names line and column.
    """
    try:
        content = read_regular(file, MAX_BYTES)
    except TooLargeError:
        raise SettingsError(f"{file} has more than {MAX_BYTES} bytes", "settings are short", code="E212") from None
    except UnfitFileError as error:
        raise SettingsError(f"{file} is no settings file: {error.strerror}") from None
    except OSError as error:
        raise SettingsError(f"no settings file {file}: {error.strerror}") from None
    try:
        table = parse_toml(content.decode("utf-8-sig"))  # some editors put a mark before the text
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}", "save it as UTF-8 text", code="E205") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not TOML: {error}", code="E205") from None
    if not table:
        raise SettingsError(f"{file} is empty", "give [data], [backbone] and [[stage]] tables", code="E206")
    return table


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ValueError: If it is none, or has more than settings need: tables deeper than 20, more than 20,000 values, or
            an integer of more than 64 bits.
    """
    _look(text)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError(f"tables go more than {MAX_DEPTH} deep") from None
    except ValueError:  # of Python, which reads no more than 4300 digits
        raise ValueError(f"an integer has more than {WORD} bits") from None
    _limit(table)
    return table


def parse_value(text: str) -> Any:
    """Read a value as TOML writes it (`3`, `0.1`, `true`, `["a"]`); anything else is a string.

    >>> parse_value("1e-3"), parse_value("bicubic")
    (0.001, 'bicubic')
    """
    try:
        table = parse_toml(f"x = {text}")
    except ValueError:
        return text
    return table["x"] if len(table) == 1 else text


def split_key(text: str) -> list[str]:
    """Split a dotted key of the command line.

    Raises:
        SettingsError: If it has more parts than there are tables in tables.
    """
    parts = [part.strip() for part in text.split(".")]
    if len(parts) > MAX_DEPTH:
        raise SettingsError(f"{text[:40]!r} ... has {len(parts)} parts: tables go at most {MAX_DEPTH} deep")
    return parts


def _look(text: str) -> None:
    """Refuse a text that takes long to read, by its keys and values, which strings and comments are not.

    Raises:
        ValueError: If it has too many of them.
    """
    bare = _STRINGS.sub("s", text)
    if sum(map(bare.count, "[=,")) > 2 * MAX_VALUES:
        raise ValueError(f"there are more than {MAX_VALUES} values")
    if any(_parts(line) > MAX_DEPTH for line in bare.splitlines() if line.count(".") >= MAX_DEPTH):
        raise ValueError(f"tables go more than {MAX_DEPTH} deep")


def _parts(line: str) -> int:
    """Count the parts of the longest dotted key in a line."""
    return max(piece.count(".") + 1 for piece in re.split(r"[=,{}\[\]]", line))


def _limit(table: dict[str, Any]) -> None:
    """Count what a table holds, without recursion."""
    layer: Sequence[Any] = [table]
    count = 0
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for one in layer:
            if isinstance(one, dict | list):
                inner += one.values() if isinstance(one, dict) else one
            elif isinstance(one, int) and one.bit_length() >= WORD:
                raise ValueError(f"an integer has more than {WORD} bits")
        count += len(inner)
        if count > MAX_VALUES:
            raise ValueError(f"there are more than {MAX_VALUES} values")
        layer = inner
    if layer:
        raise ValueError(f"tables go more than {MAX_DEPTH} deep")
