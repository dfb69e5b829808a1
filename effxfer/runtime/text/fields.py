"""Validate the values of a text input and of a tokenizer that a file states: anybody may have written it."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

LARGEST_SIZE = 1_000_000
LARGEST_ID = 2**31
LONGEST_PATTERN = 1000
LONGEST_TOKEN = 1000
LONGEST_LIST = 2_000_000
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


def known_fields(role: str, raw: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse a table with a field that is none of `names`, except `type`.

    Raises:
        ValueError: With the field.
    """
    unknown = [name for name in raw if name not in names and name != "type"]
    if unknown:
        raise ValueError(f"a {role} with the unknown field {unknown[0]:.40}")


def plain_value(name: str, value: Any) -> Any:
    """Check a value that is a short text, true, false or nothing.

    Raises:
        ValueError: If it is something else.
    """
    return value if value is None or type(value) is bool else bounded_text(name, value, LONGEST_TOKEN)


def bounded_list(name: str, raw: Any, limit: int = LONGEST_LIST) -> list[Any]:
    """Check a list.

    Raises:
        ValueError: If it is none, or longer than the limit.
    """
    if not isinstance(raw, list) or len(raw) > limit:
        raise ValueError(f"{name} that are no list of at most {limit}")
    return raw


def bounded_text(name: str, value: Any, longest: int) -> str:
    """Check a text.

    Raises:
        ValueError: If it is none, or longer than `longest`.
    """
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{name} {value!s:.40}, no text of at most {longest} characters")
    return value


def token_id(name: str, value: Any) -> int:
    """Check the id of a token.

    Raises:
        ValueError: If it is no integer from 0 to 2^31 - 1.
    """
    if not is_id(value):
        raise ValueError(f"the id {value!s:.40} of {name:.40}")
    number: int = value
    return number


def is_id(value: Any) -> bool:
    """Whether a value is an integer that fits into the type of ids, int32, and is not negative."""
    return type(value) is int and 0 <= value < LARGEST_ID


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
