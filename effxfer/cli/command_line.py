"""The command that this process was started with, as a shell takes it again."""

import shlex
import sys

from effxfer.runtime.printing import printable

DEBUG = "--debug"
ONCE = ("--json", DEBUG, "--dry-run", "--force")


def reproduce(*, as_it_was: bool = False) -> str:
    """The command that this process was started with, in one line that a shell takes.

    Args:
        as_it_was: With the words that a result does not depend on: --force is needed to go on where an older result is.
    """
    words = [word for word in sys.argv[1:] if as_it_was or word not in ONCE]
    return " ".join(map(_quoted, ["effxfer", *words]))


def _quoted(word: str) -> str:
    """Quote a word for a shell; by its escapes, if it holds what a terminal would obey."""
    if printable(word) == word:
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if printable(c) == c else _octal(c) for c in escaped) + "'"


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors="surrogateescape"))
