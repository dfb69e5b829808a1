"""Escape names of files and classes for a terminal's line and for a table's cell.

A name may contain anything: line breaks forge rows, escape sequences control the terminal, direction marks disguise
it as another name, and a spreadsheet evaluates it if it starts with `=`.
"""

import json
import unicodedata
from typing import Any

UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format and direction, surrogates, line and paragraph breaks
JOINERS = "\u200c\u200d"  # they join letters in words of some scripts, and parts of an emoji
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: object) -> str:
    r"""Escape the control characters of a text; the result is one line.

    >>> printable("cat\n\x1b[31mdog"), printable("Käfer 🐞")
    ('cat\\n\\x1b[31mdog', 'Käfer 🐞')
    """
    line = str(text)
    return line if line.isprintable() else "".join(_escape(character) for character in line)


def csv_cell(value: Any) -> Any:
    """Escape a CSV cell so that no spreadsheet evaluates it: put `'` before a leading `=`, `+`, `-`, `@`, tab or CR.

    Numbers are unchanged. A reader of the table removes one `'` before these characters.

    >>> csv_cell("=1+1"), csv_cell("cat"), csv_cell(-0.5)
    ("'=1+1", 'cat', -0.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def json_line(text: str) -> str:
    """Escape the control characters in a JSON text; its value is unchanged."""
    return text if text.isprintable() else "".join(json.dumps(c)[1:-1] if _is_control(c) else c for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode() if _is_control(character) else character


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in UNPRINTABLE and character not in JOINERS
