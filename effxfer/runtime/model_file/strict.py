"""What a file says of itself is checked before it is believed: anybody can have written it."""

import json
import math
from collections.abc import Mapping
from typing import Any

LARGEST_SIDE = 8192
LEAST_CROP = 0.01
MOST_LABELS, LONGEST_LABEL = 100_000, 1000
LONGEST_TEXT = 16_000_000
CROPS = ("center", "squash", "letterbox")
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def read_json(text: str) -> Any:
    """Parse a text of bounded length and depth.

    Raises:
        ValueError: If it is longer, nested too deeply, or no JSON.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"a text of {len(text)} characters, {LONGEST_TEXT} at most")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists are nested too deeply") from None


def labels(raw: Any) -> tuple[str, ...]:
    """Check names of classes.

    Raises:
        ValueError: If they are no list of texts, or too many or too long.
    """
    if not isinstance(raw, list) or not 0 < len(raw) <= MOST_LABELS:
        raise ValueError(f"labels are no list of 1 to {MOST_LABELS} names")
    for label in raw:
        if not isinstance(label, str) or len(label) > LONGEST_LABEL:
            raise ValueError(f"the label {_shown(label)} is no text of at most {LONGEST_LABEL} characters")
    return tuple(raw)


def preprocess(raw: Any) -> dict[str, Any]:
    """Check the fields of a `Preprocess`; those that are not there are left to its defaults.

    Raises:
        ValueError: If a field is unknown, missing or out of its range.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"preprocess is {_shown(raw)}, no table")  # noqa: TRY004 of a file, not of a caller
    checks = {
        "size": side, "crop_pct": _share, "crop": _crop, "interpolation": _filter, "mean": _three, "std": _spread,
    }  # fmt: skip
    strange = [str(name) for name in raw if name not in checks]
    missing = [name for name in ("mean", "std") if name not in raw]
    if strange or missing:
        raise ValueError(
            f"preprocess has no field {missing[0]!r}" if missing else f"unknown field {_shown(strange[0])}"
        )
    return {name: checks[name](name, value) for name, value in raw.items()}


def side(name: str, value: Any) -> int:
    """Check the side of an image in pixels.

    Raises:
        ValueError: If it is none.
    """
    if type(value) is not int or not 1 <= value <= LARGEST_SIDE:
        raise ValueError(f"{name} is {_shown(value)}, no whole number from 1 to {LARGEST_SIDE}")
    return value


def _share(name: str, value: Any) -> Any:
    if not _is_number(value) or not LEAST_CROP <= value <= 1:
        raise ValueError(f"{name} is {_shown(value)}, no number from {LEAST_CROP} to 1")
    return value


def _crop(name: str, value: Any) -> str:
    return _known(name, value, CROPS)


def _filter(name: str, value: Any) -> str:
    return _known(name, value, FILTERS)


def _known(name: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} is {_shown(value)}, none of {', '.join(known)}")
    return value


def _three(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(_is_number, value)):
        raise ValueError(f"{name} is {_shown(value)}, no list of three numbers")
    return tuple(value)


def _spread(name: str, value: Any) -> tuple[float, ...]:
    three = _three(name, value)
    if min(three) <= 0:
        raise ValueError(f"{name} is {_shown(value)}, not above 0")
    return three


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30 and math.isfinite(value)


def _shown(value: Any) -> str:
    text = f"{value!r:.60}" if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) < 60 else f"{text[:57]}..."
