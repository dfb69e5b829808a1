"""Between measured points: where to measure, and how to interpolate; no clock, no disk."""

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence

Point = tuple[int, int]
UNIT = 8
CLASSES = (4, 2, 1)
MOST_POINTS = 8
TOLERANCE = 1.15


def axis(widths: Collection[int], *, narrow: bool = False) -> list[int]:
    """Choose the widths to measure, ascending, in even proportions: multiples of 8, and the ends.

    Args:
        widths: Those that occur; the largest of them and those below 8 are always measured.
        narrow: Measure 1, 2 and 4 as well, for widths within a group.

    >>> axis([3, 96]), axis([1280])
    ([3, 8, 16, 32, 48, 96], [8, 16, 32, 72, 144, 304, 616, 1280])
    """
    most = max(widths)
    found = {most, *(width for width in widths if width < UNIT)}
    if narrow:
        found |= {width for width in (1, 2, 4) if width < most}
    if most > UNIT:
        steps = min(MOST_POINTS - 1, math.ceil(math.log2(most / UNIT)))
        found |= {round(UNIT ** (1 - i / steps) * most ** (i / steps) / UNIT) * UNIT for i in range(steps)}
    return sorted(found)


def bilinear(points: Mapping[Point, float], xs: Sequence[int], ys: Sequence[int], x: int, y: int) -> float:
    """Interpolate between the four measured points around `(x, y)`; below the smallest ones, take those.

    Args:
        points: Values by `(x, y)`; those around what is asked for must be there.
        xs: The first axis, ascending.
        ys: The second axis, ascending.
        x: Where, in `[0, xs[-1]]`.
        y: Where, in `[0, ys[-1]]`.

    Raises:
        KeyError: If one of the four points was not measured.
    """
    left, right, u = _around(xs, x)
    low, high, v = _around(ys, y)
    bottom = _mix(points[left, low], points[right, low] if u else 0.0, u)
    if not v:
        return bottom
    return _mix(bottom, _mix(points[left, high], points[right, high] if u else 0.0, u), v)


def stairs(times: Mapping[int, float], base: int) -> dict[int, float]:
    """Say how much longer widths off the multiples of 8 take than a straight line between those.

    Args:
        times: Time at `base`, `base + 8`, and `base + r` for `r` in 4, 2, 1.
        base: A multiple of 8.

    Returns:
        By `r`, the factor, at least 1: of widths that are multiples of `r` but not of `2 r`.

    >>> stairs({64: 10.0, 72: 12.0, 68: 11.0, 66: 21.0, 65: 20.5}, 64)
    {4: 1.0, 2: 2.0, 1: 2.0}
    """
    low, high = times[base], times[base + UNIT]
    return {r: max(1.0, times[base + r] / _mix(low, high, r / UNIT)) for r in CLASSES}


def class_of(width: int) -> int:
    """Give the largest of 8, 4, 2, 1 that divides a width."""
    return math.gcd(width, UNIT)


def fast_step(found: Collection[Mapping[int, float]]) -> int:
    """Give the smallest of 8, 4, 2, 1 whose multiples all take at most 15 % longer than the straight line.

    Args:
        found: What `stairs` gave for each kind of layer; without any, every width is as good as another.

    >>> fast_step([{4: 1.02, 2: 2.0, 1: 2.0}, {4: 1.1, 2: 1.0, 1: 5.0}]), fast_step([])
    (4, 1)
    """
    step = UNIT
    for r in CLASSES:
        if any(factors[r] > TOLERANCE for factors in found):
            break
        step = r
    return step


def _around(values: Sequence[int], value: int) -> tuple[int, int, float]:
    """The two measured values around one, and how far between them it is, in [0, 1)."""
    place = bisect_left(values, value)
    if place == 0 or values[min(place, len(values) - 1)] == value:
        exact = values[place]
        return exact, exact, 0.0
    low, high = values[place - 1], values[place]
    return low, high, (value - low) / (high - low)


def _mix(one: float, other: float, share: float) -> float:
    return one + (other - one) * share if share else one
