"""Recognize texts whose characters were damaged when they were saved, copied or cut out of a page."""

import re

REPLACEMENT = "\ufffd"
# Without tab, line feed, carriage return; with the controls of Latin-1, which no writer uses.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
RUN = re.compile(
    r"[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]{2,}"
)
MARKUP = re.compile(
    r"&(?:[a-z]{2,8}|#\d{1,6}|#x[0-9a-f]{1,5});|</?(?:a|b|br|div|em|i|li|p|span|strong|td|ul)\b[^<>]{0,200}>", re.I
)


def damage_of(text: str) -> dict[str, str]:
    r"""Return the kinds of damage of a text, by the code of their warning, with an example of each.

    * `W352` a character that could not be decoded, or UTF-8 that was read as Latin-1 or Windows-1252;
    * `W353` control characters;
    * `W354` marks of HTML.

    >>> damage_of("caf\u00c3\u00a9 &amp; tea")
    {'W352': 'Ã©', 'W354': '&amp;'}
    """
    damage = {}
    if wrong := REPLACEMENT if REPLACEMENT in text else misread_characters(text):
        damage["W352"] = wrong
    if match := CONTROL.search(text):
        damage["W353"] = f"U+{ord(match[0]):04X}"
    if match := MARKUP.search(text):
        damage["W354"] = match[0]
    return damage


def misread_characters(text: str) -> str:
    """Return the first characters that are UTF-8 read as Windows-1252 or Latin-1; empty without any.

    Two letters that belong together, as in `Ñuñoa`, are no valid UTF-8 in either encoding.
    """
    if text.isascii():
        return ""
    return next((run[0] for run in RUN.finditer(text) if _is_misread(run[0])), "")


def _is_misread(run: str) -> bool:
    for encoding in ("cp1252", "latin-1"):
        try:
            run.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False
