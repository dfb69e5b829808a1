"""Choose the widths to measure, and interpolate between measured points. No clock and no disk access."""

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence

Point = tuple[int, int]
# Floats of an AVX2 vector, and of ONNX Runtime's channel blocks there: off its multiples, kernels lose their fast path.
UNIT = 8
SUBDIVISIONS = (4, 2, 1)
MOST_POINTS = 8  # chosen: 64 measurements for a convolution at most, a fraction of a second each
# Chosen, not measured: above the noise of a layer's time, below what leaving the fast path costs.
TOLERANCE = 1.15


def sample_widths(widths: Collection[int], *, narrow: bool = False) -> list[int]:
    """Choose the widths to measure, ascending and geometrically spaced: multiples of 8, and the ends.

    Args:
        widths: Widths that occur; the largest and those below 8 are always measured.
        narrow: Measure 1, 2 and 4 as well, for widths within a group.

    >>> sample_widths([3, 96]), sample_widths([1280])
    ([3, 8, 16, 24, 48, 96], [8, 16, 32, 72, 144, 304, 616, 1280])
    """
    largest = max(widths)
    samples = {largest, *(width for width in widths if width < UNIT)}
    if narrow:
        samples |= {width for width in (1, 2, 4) if width < largest}
    if largest > UNIT:
        steps = min(MOST_POINTS - 1, math.ceil(math.log2(largest / UNIT)))
        # Geometric: latency grows with the product of widths, so relative distances matter.
        samples |= {round(UNIT ** (1 - i / steps) * largest ** (i / steps) / UNIT) * UNIT for i in range(steps)}
    return sorted(samples)


def bilinear(points: Mapping[Point, float], xs: Sequence[int], ys: Sequence[int], x: int, y: int) -> float:
    """Interpolate bilinearly at `(x, y)`; below the smallest measured widths, use those.

    Args:
        points: Values by `(x, y)`, with the four points around the requested one.
        xs: The first axis, ascending.
        ys: The second axis, ascending.
        x: Coordinate in `[0, xs[-1]]`.
        y: Coordinate in `[0, ys[-1]]`.

    Raises:
        KeyError: If one of the four points was not measured.
    """
    x_low, x_high, u = _bracket(xs, x)
    y_low, y_high, v = _bracket(ys, y)
    bottom = _lerp(points[x_low, y_low], points[x_high, y_low] if u else 0.0, u)
    if not v:
        return bottom
    return _lerp(bottom, _lerp(points[x_low, y_high], points[x_high, y_high] if u else 0.0, u), v)


def off_grid_factors(times: Mapping[int, float], base: int) -> dict[int, float]:
    """Return how much longer widths off the multiples of 8 take than linear interpolation between those.

    Args:
        times: Time at `base`, `base + 8`, and `base + r` for `r` in 4, 2, 1.
        base: A multiple of 8.

    Returns:
        By `r`, the factor, at least 1: of widths that are multiples of `r` but not of `2 r`.

    >>> off_grid_factors({64: 10.0, 72: 12.0, 68: 11.0, 66: 21.0, 65: 20.5}, 64)
    {4: 1.0, 2: 2.0, 1: 2.0}
    """
    low, high = times[base], times[base + UNIT]
    # Below 1 is noise of the timing.
    return {r: max(1.0, times[base + r] / _lerp(low, high, r / UNIT)) for r in SUBDIVISIONS}


def width_class(width: int) -> int:
    """Return the largest of 8, 4, 2, 1 that divides a width."""
    return math.gcd(width, UNIT)


def fast_step(factors_by_kind: Collection[Mapping[int, float]]) -> int:
    """Return the smallest of 8, 4, 2, 1 whose multiples all take at most 15 % longer than the interpolation.

    Args:
        factors_by_kind: `off_grid_factors` of each kind of layer; if empty, the step is 1.

    >>> fast_step([{4: 1.02, 2: 2.0, 1: 2.0}, {4: 1.1, 2: 1.0, 1: 5.0}]), fast_step([])
    (4, 1)
    """
    step = UNIT
    for r in SUBDIVISIONS:
        if any(factors[r] > TOLERANCE for factors in factors_by_kind):
            break
        step = r
    return step


def _bracket(values: Sequence[int], value: int) -> tuple[int, int, float]:
    """Return the two measured values around `value`, and its relative position between them, in [0, 1)."""
    place = bisect_left(values, value)
    if place == 0 or values[min(place, len(values) - 1)] == value:
        exact = values[place]
        return exact, exact, 0.0
    low, high = values[place - 1], values[place]
    return low, high, (value - low) / (high - low)


def _lerp(start: float, end: float, share: float) -> float:
    return start + (end - start) * share if share else start
