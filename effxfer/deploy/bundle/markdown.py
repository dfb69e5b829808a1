"""Names that somebody else chose, in Markdown: they show as what they are, and make no links, HTML, cells or lines."""

import json
import re
from typing import Any

SPECIAL = re.compile(r"[\\`*_\[\]{}#|~$!]")
LIKE_A_LINK = re.compile(r":(?=/)|(?<=[wW]{3})\.|@")
AT_THE_START = re.compile(r"^(?:[-+=]|\d{1,9}[.)](?=\s|$))")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def escape(value: Any) -> Markdown:
    r"""Give a value as one line of plain text; what is Markdown already stays.

    >>> print(escape("[a](x) <b>\n| 1_2"))
    \[a\](x) &lt;b&gt; \| 1\_2
    """
    if isinstance(value, Markdown):
        return value
    text = SPECIAL.sub(r"\\\g<0>", in_one_line(str(value)))
    text = "".join(ENTITIES.get(letter, letter) for letter in text)
    return Markdown(AT_THE_START.sub(_entity, LIKE_A_LINK.sub(_entity, text)))


def code(value: Any) -> Markdown:
    r"""Give a value as code, for a cell of a table: fenced by more backticks than it has in a row.

    >>> print(code("a`b|c"))
    `` a`b\|c ``
    """
    text = in_one_line(str(value)).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}")


def quoted(value: Any) -> Markdown:
    r"""Give a value as a string that YAML, JSON but for letters beyond 16 bits, and Python read.

    >>> print(quoted('a"\x07\x7f\u2028'))
    "a\"\u0007\U0000007f\U00002028"
    """
    text = json.dumps(str(value), ensure_ascii=False)
    return Markdown("".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text))


def in_one_line(text: str) -> str:
    """Put spaces for breaks and for what does not show, such as marks that turn the direction of writing."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _entity(found: re.Match[str]) -> str:
    """Give what was found so that it shows as before; only its last letter has a meaning."""
    return f"{found[0][:-1]}&#{ord(found[0][-1])};"
