"""Names that come from files, made fit for a terminal's line and for a table's cell.

A class or a file may be called anything: with line breaks it forges rows, with escape sequences it commands the
terminal, with controls of direction it reads as another, and with `=` before it a spreadsheet computes it.
"""

import json
import unicodedata
from typing import Any

UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, format and direction, half characters, line and paragraph
JOINERS = "\u200c\u200d"  # of letters in words, and of parts of one picture
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: object) -> str:
    r"""Give a text as one line that shows its control characters instead of obeying them.

    >>> printable("cat\n\x1b[31mdog"), printable("Käfer 🐞")
    ('cat\\n\\x1b[31mdog', 'Käfer 🐞')
    """
    line = str(text)
    return line if line.isprintable() else "".join(_shown(character) for character in line)


def csv_cell(value: Any) -> Any:
    """Give a label or a path as a CSV cell that no spreadsheet takes for a formula: `'` before `=`, `+`, `-`, `@`.

    Numbers stay. Whoever reads the table back takes one leading `'` off before one of these characters, a tab or a
    carriage return.

    >>> csv_cell("=1+1"), csv_cell("cat"), csv_cell(-0.5)
    ("'=1+1", 'cat', -0.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def json_line(text: str) -> str:
    """Escape in a JSON text what a terminal would obey; it says the same."""
    return text if text.isprintable() else "".join(json.dumps(c)[1:-1] if _obeyed(c) else c for c in text)


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode() if _obeyed(character) else character


def _obeyed(character: str) -> bool:
    return unicodedata.category(character) in UNPRINTABLE and character not in JOINERS
