"""Validate the values of a text input that a file states: anybody may have written it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

LARGEST_SIZE = 1_000_000
LARGEST_ID = 2**31
LONGEST_PATTERN = 1000
SHA256 = re.compile(r"[0-9a-f]{64}")


def tokens(raw: Any) -> dict[str, Any]:
    """Check the fields of a `Tokens`; `pattern` and `stride` have defaults.

    Raises:
        ValueError: If a field is unknown, missing or out of its range.
    """
    if not isinstance(raw, Mapping) or raw.get("kind") != "text":
        raise ValueError("the input is no table of kind text")
    checks: dict[str, Callable[[str, Any], Any]] = {
        "size": lambda name, value: _integer(name, value, 1, LARGEST_SIZE),
        "pad": lambda name, value: _integer(name, value, 0, LARGEST_ID - 1),
        "stride": lambda name, value: _integer(name, value, 0, LARGEST_SIZE),
        "pattern": _pattern,
        "tokenizer": _sha256,
    }
    unknown = [str(name) for name in raw if name not in checks and name != "kind"]
    missing = [name for name in ("size", "pad", "tokenizer") if name not in raw]
    if unknown or missing:
        problem = f"no field {missing[0]!r}" if missing else f"the unknown field {unknown[0]!r:.60}"
        raise ValueError(f"the input has {problem}")
    return {name: checks[name](name, value) for name, value in raw.items() if name != "kind"}


def _integer(name: str, value: Any, smallest: int, largest: int) -> int:
    if type(value) is not int or not smallest <= value <= largest:
        raise ValueError(f"{name} is {value!s:.60}, no whole number from {smallest} to {largest}")
    return value


def _pattern(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_PATTERN:
        raise ValueError(f"{name} is {value!s:.60}, no text of at most {LONGEST_PATTERN} characters")
    return value


def _sha256(name: str, value: Any) -> str:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise ValueError(f"{name} is {value!s:.60}, no SHA-256")
    return value
