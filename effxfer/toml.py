"""Read TOML within limits, so that absurd files are refused at once and not after minutes.

The time of Python's reader grows with the square of a key's parts, and it reads integers of any size.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effxfer.errors import SettingsError
from effxfer.runtime.reading import TooLargeError, UnfitFileError, read_regular

MAX_BYTES = 1_000_000  # shipped pipelines have at most 2 kB
# A dotted key of 8,000 parts takes 0.8 s to parse, and four times that for twice as many; 20 take nothing.
MAX_DEPTH = 20
# They parse in 0.06 s; the shipped pipelines have at most 68.
MAX_VALUES = 20_000
INTEGER_BITS = 64  # bits of an integer, as TOML has it
# The four kinds of strings, unfinished ones too, and comments. Long forms first: `"""` begins with `""`.
_STRINGS = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?(?:"""|\Z)' r"|'''[\s\S]*?(?:'''|\Z)" r'|"(?:\\.|[^"\\\n])*"?' r"|'[^'\n]*'?" r"|#[^\n]*"
)


def read_toml(file: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        SettingsError: If it is absent, no regular file, larger than 1 MB (E212), empty (E206), not TOML, or beyond the
            limits (E205); a syntax error names line and column.
    """
    try:
        content = read_regular(file, MAX_BYTES)
    except TooLargeError:
        raise SettingsError(
            f"{file} has more than {MAX_BYTES} bytes", "a settings file is much smaller", code="E212"
        ) from None
    except UnfitFileError as error:
        raise SettingsError(f"{file} is no settings file: {error.strerror}") from None
    except OSError as error:
        raise SettingsError(f"no settings file {file}: {error.strerror}") from None
    try:
        table = parse_toml(content.decode("utf-8-sig"))  # some editors write a byte order mark
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
        ValueError: If it is invalid or exceeds the limits: tables deeper than 20, more than 20,000 values, or
            an integer of more than 64 bits.
    """
    # Before the parser, whose time is what has to be limited.
    _check_text(text)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError(f"tables go more than {MAX_DEPTH} deep") from None
    except ValueError:  # Python reads at most 4300 digits
        raise ValueError(f"an integer has more than {INTEGER_BITS} bits") from None
    _check_table(table)
    return table


def parse_value(text: str) -> Any:
    """Read a TOML value (`3`, `0.1`, `true`, `["a"]`); any other text is a string.

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
        SettingsError: If it has more parts than tables may be nested.
    """
    parts = [part.strip() for part in text.split(".")]
    if len(parts) > MAX_DEPTH:
        raise SettingsError(f"{text[:40]!r} ... has {len(parts)} parts: tables go at most {MAX_DEPTH} deep")
    return parts


def _check_text(text: str) -> None:
    """Refuse a text with too many keys and values, outside of strings and comments, before it is parsed.

    Raises:
        ValueError: If it has too many of them.
    """
    bare = _STRINGS.sub("s", text)
    # A value has one "=" or ","; tables and lists add brackets, hence twice. A bound; the exact count follows.
    if sum(map(bare.count, "[=,")) > 2 * MAX_VALUES:
        raise ValueError(f"there are more than {MAX_VALUES} values")
    if any(_parts(line) > MAX_DEPTH for line in bare.splitlines() if line.count(".") >= MAX_DEPTH):
        raise ValueError(f"tables go more than {MAX_DEPTH} deep")


def _parts(line: str) -> int:
    """Count the parts of the longest dotted key in a line."""
    return max(piece.count(".") + 1 for piece in re.split(r"[=,{}\[\]]", line))


def _check_table(table: dict[str, Any]) -> None:
    """Check the depth, values and integers of a table, without recursion."""
    layer: Sequence[Any] = [table]
    count = 0
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for value in layer:
            if isinstance(value, dict | list):
                inner += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int) and value.bit_length() >= INTEGER_BITS:
                raise ValueError(f"an integer has more than {INTEGER_BITS} bits")
        count += len(inner)
        if count > MAX_VALUES:
            raise ValueError(f"there are more than {MAX_VALUES} values")
        layer = inner
    if layer:
        raise ValueError(f"tables go more than {MAX_DEPTH} deep")
