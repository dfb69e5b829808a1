"""Validate a file's own description: anybody may have written it."""

import json
import math
from collections.abc import Mapping
from typing import Any

# Chosen: one image of it is 805 MB in float32.
LARGEST_SIDE = 8192
# An image is resized to `size / crop_pct`: at most 100 times the side.
SMALLEST_CROP = 0.01
# Chosen: ImageNet-21k has 21,841 classes; names are synonyms at the longest.
MAX_LABELS, LONGEST_LABEL = 100_000, 1000
# 160 characters for each of the most labels.
LONGEST_TEXT = 16_000_000
CROPS = ("center", "squash", "letterbox")
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


class UnknownKindError(ValueError):
    """A kind of input or output that this version does not know."""


def read_json(text: str) -> Any:
    """Parse JSON of bounded length and depth.

    Raises:
        ValueError: If it is too long, nested too deeply, or no JSON.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"a text of {len(text)} characters, {LONGEST_TEXT} at most")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists are nested too deeply") from None


def labels(raw: Any) -> tuple[str, ...]:
    """Check a list of class names.

    Raises:
        ValueError: If it is no list of texts, or has too many or too long ones.
    """
    if not isinstance(raw, list) or not 0 < len(raw) <= MAX_LABELS:
        raise ValueError(f"labels are no list of 1 to {MAX_LABELS} names")
    for label in raw:
        if not isinstance(label, str) or len(label) > LONGEST_LABEL:
            raise ValueError(f"the label {_describe(label)} is no text of at most {LONGEST_LABEL} characters")
    return tuple(raw)


def preprocess(raw: Any) -> dict[str, Any]:
    """Check the fields of a `Preprocess`; absent ones have defaults, except `mean` and `std`.

    Raises:
        ValueError: If a field is unknown, missing or out of its range.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"preprocess is {_describe(raw)}, no table")  # noqa: TRY004 (the file is wrong, not the caller)
    checks = {
        "size": side, "crop_pct": _fraction, "crop": _crop, "interpolation": _filter,
        "mean": _three_numbers, "std": _positive_numbers,
    }  # fmt: skip
    unknown = [str(name) for name in raw if name not in checks]
    missing = [name for name in ("mean", "std") if name not in raw]
    if unknown or missing:
        raise ValueError(
            f"preprocess has no field {missing[0]!r}" if missing else f"unknown field {_describe(unknown[0])}"
        )
    return {name: checks[name](name, value) for name, value in raw.items()}


def side(name: str, value: Any) -> int:
    """Check the side of an image in pixels.

    Raises:
        ValueError: If it is no integer from 1 to 8192.
    """
    if type(value) is not int or not 1 <= value <= LARGEST_SIDE:
        raise ValueError(f"{name} is {_describe(value)}, no whole number from 1 to {LARGEST_SIDE}")
    return value


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Check a list of finite numbers.

    Raises:
        ValueError: If it is no list of at most 100,000 numbers.
    """
    if not isinstance(value, list | tuple) or len(value) > MAX_LABELS or not all(map(_is_number, value)):
        raise ValueError(f"{name} is {_describe(value)}, no list of at most {MAX_LABELS} numbers")
    return tuple(map(float, value))


def _fraction(name: str, value: Any) -> Any:
    if not _is_number(value) or not SMALLEST_CROP <= value <= 1:
        raise ValueError(f"{name} is {_describe(value)}, no number from {SMALLEST_CROP} to 1")
    return value


def _crop(name: str, value: Any) -> str:
    return _choice(name, value, CROPS)


def _filter(name: str, value: Any) -> str:
    return _choice(name, value, FILTERS)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {_describe(value)}, none of {', '.join(choices)}")
    return value


def _three_numbers(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(_is_number, value)):
        raise ValueError(f"{name} is {_describe(value)}, no list of three numbers")
    return tuple(value)


def _positive_numbers(name: str, value: Any) -> tuple[float, ...]:
    numbers = _three_numbers(name, value)
    if min(numbers) <= 0:
        raise ValueError(f"{name} is {_describe(value)}, not above 0")
    return numbers


def _is_number(value: Any) -> bool:
    # Not `isinstance`: True is an int. 1e30 is far from float32's largest, 3.4e38, so that sums of some are finite.
    return type(value) in (int, float) and abs(value) < 1e30 and math.isfinite(value)


def _describe(value: Any) -> str:
    text = f"{value!r:.60}" if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) < 60 else f"{text[:57]}..."
