"""Limits of what an edit may set: a damaged or foreign file must not fill the memory, nor make a pass endless."""

from typing import Any

from effxfer.errors import ModelFileError

LARGE = 2**20  # no layer of a backbone gives more features


def check_size(name: str, size: int, before: int = 0) -> None:
    """Refuse a size with which a file could fill the memory: pruning makes no tensor larger.

    Args:
        name: Of what has the size, for the error.
        size: Numbers that an edit asks for.
        before: Numbers that were there before it; 0 for what is new.

    Raises:
        ModelFileError: `E405`, if there are more numbers than `LARGE`, and than before.
    """
    if size > max(before, LARGE):
        text = f"an edit makes {name} of {size:,} numbers, where {before or LARGE:,} are the most"
        raise ModelFileError(text, "get an intact copy", code="E405")


def check_number(name: str, before: Any, value: Any) -> None:
    """Refuse a count or a stride of 0, and a kernel or a padding that grew: they make a pass impossible, or endless.

    Args:
        name: Of the attribute, for the error.
        before: Its value before the edit; a number, a tuple of numbers, or None if it has none.
        value: The value that an edit gives it, in its JSON form.

    Raises:
        ModelFileError: `E404`, if pruning could not have made this number of the one before.
    """
    if isinstance(before, int) and isinstance(value, int):
        fits = value >= min(before, 1)
    elif isinstance(before, tuple) and isinstance(value, list):
        fits = len(value) == len(before) and all(min(b, 1) <= v <= b for v, b in zip(value, before, strict=True))
    else:
        fits = True
    if not fits:
        raise ModelFileError(f"an edit makes {name} {value}, where it is {before}", "get an intact copy", code="E404")
