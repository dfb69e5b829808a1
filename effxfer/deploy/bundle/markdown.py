"""Escape user-supplied names in Markdown, so that they form no links, HTML, table cells or lines."""

import json
import re
from typing import Any

# What CommonMark and GitHub's tables, strikethrough and formulas give a meaning to.
SPECIAL = re.compile(r"[\\`*_\[\]{}#|~$!]")
# GitHub links bare addresses, www. and names after "@", which no backslash prevents.
LINK_LIKE = re.compile(r":(?=/)|(?<=[wW]{3})\.|@")
# Lists, headings underlined and numbered items: only at the start of a line.
LINE_START = re.compile(r"^(?:[-+=]|\d{1,9}[.)](?=\s|$))")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Markdown(str):
    """Text that is already Markdown."""

    __slots__ = ()


def escape(value: Any) -> Markdown:
    r"""Escape a value as one line of plain text; `Markdown` is returned unchanged.

    >>> print(escape("[a](x) <b>\n| 1_2"))
    \[a\](x) &lt;b&gt; \| 1\_2
    """
    if isinstance(value, Markdown):
        return value
    text = SPECIAL.sub(r"\\\g<0>", to_one_line(str(value)))
    text = "".join(ENTITIES.get(letter, letter) for letter in text)
    return Markdown(LINE_START.sub(_entity, LINK_LIKE.sub(_entity, text)))


def format_code(value: Any) -> Markdown:
    r"""Format a value as code for a table cell, fenced by more backticks than its longest run.

    >>> print(format_code("a`b|c"))
    `` a`b\|c ``
    """
    text = to_one_line(str(value)).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}")


def quote_string(value: Any) -> Markdown:
    r"""Quote a value as a string literal of YAML and Python, and of JSON up to 16-bit characters.

    >>> print(quote_string('a"\x07\x7f\u2028'))
    "a\"\u0007\U0000007f\U00002028"
    """
    text = json.dumps(str(value), ensure_ascii=False)
    # Eight digits: YAML and Python read \U, and marks of writing direction could turn a line around.
    return Markdown("".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text))


def to_one_line(text: str) -> str:
    """Replace line breaks and unprintable characters, such as marks of writing direction, by spaces."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _entity(match: re.Match[str]) -> str:
    """Replace the last character of a match, the only one with a meaning, by its HTML entity."""
    return f"{match[0][:-1]}&#{ord(match[0][-1])};"
