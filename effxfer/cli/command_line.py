"""Reproduce this process's command line for a shell, and translate settings into its flags."""

import re
import shlex
import sys

from effxfer.runtime.printing import printable

DEBUG = "--debug"
SETTING = re.compile(r"`([a-z][a-z0-9_.]*(?:=[^`\s]+)?)`")
TRUST = re.compile(r'`effxfer\.trust\("([^"`\s]+)"\)`')
# Settings in the library's messages that have their own flag; all others are passed by --set.
FLAGS = (
    "backbone", "data", "debug", "device", "force", "max_mb", "max_p50_ratio", "max_regression", "ort_web", "out",
    "preset", "storage",
)  # fmt: skip
ONCE = ("--json", DEBUG, "--dry-run", "--force")


def reproduce(*, as_it_was: bool = False) -> str:
    """Return the command line of this process as one line that can be pasted into a shell.

    Args:
        as_it_was: Include the flags that do not change the result, such as --force, which a resumed run needs.
    """
    words = [word for word in sys.argv[1:] if as_it_was or word not in ONCE]
    return " ".join(map(_quote, ["effxfer", *words]))


def _quote(word: str) -> str:
    """Quote a word for a shell; escape control characters that a terminal would interpret."""
    if printable(word) == word:
        return shlex.quote(word)
    # $'...' of bash and zsh: the only quotes in which control characters can be written as escapes.
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if printable(c) == c else _octal(c) for c in escaped) + "'"


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors="surrogateescape"))


def to_flags(text: str) -> str:
    """Rewrite the settings and the trust that a library message names as command-line flags.

    >>> to_flags("replace it with `force`, or pass `data.skip_bad=true` and `device=cpu`; see `effxfer check`")
    'replace it with --force, or pass --set data.skip_bad=true and --device cpu; see `effxfer check`'
    """
    return SETTING.sub(_flag, TRUST.sub(r"--trust \1", text))


def _flag(setting: re.Match[str]) -> str:
    name, equals, value = setting[1].partition("=")
    if name in FLAGS:
        return f"--{name.replace('_', '-')}{' ' if equals else ''}{value}"
    return f"--set {setting[1]}" if equals else setting[0]
