"""Find the largest of several sizes that meets a latency, in few measurements."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import log

# Each costs an export and seconds of timing; on power laws three end the search.
MOST_MEASUREMENTS = 5
# As `latency_loop`: closer than 5 % below the limit is pointless beside the noise of a timing.
NEAR = 0.05
# A little below the limit, so that noise does not send the next measurement beyond it.
MARGIN = 0.98
# Latency rises with the width to the power of 1 to 2, with the side to the power of 2; beyond these it is noise.
LEAST_POWER, MOST_POWER = 0.3, 3.0


def fit_size(
    sizes: Sequence[float], latency: Callable[[float], float], limit: float, *, start: tuple[float, float],
    power: float,
) -> float | None:  # fmt: skip
    """Find a size within a latency by interpolation of measurements on logarithmic scales.

    Args:
        sizes: Sizes above 0, ascending.
        latency: Measures a size; taken to rise with it.
        limit: Largest latency.
        start: A size and its latency, known beforehand; the size need not be among `sizes`.
        power: Exponent of the latency over the size, until two measurements tell.

    Returns:
        The largest size that was measured to be within the limit; None if the smallest is not.
    """
    points = dict([start])
    # Between them lies what is not known: the largest measured within, and the smallest measured beyond.
    within, beyond = -1, len(sizes)
    while beyond - within > 1 and len(points) <= MOST_MEASUREMENTS:
        guess = _interpolate(points, limit * MARGIN, power)
        index = min(max(bisect_right(sizes, guess) - 1, within + 1), beyond - 1)
        points[sizes[index]] = measured = latency(sizes[index])
        within, beyond = (index, beyond) if measured <= limit else (within, index)
        if limit * (1 - NEAR) <= measured <= limit:
            break
    if within < 0 and beyond > 0 and latency(sizes[0]) <= limit:
        within = 0
    return sizes[within] if within >= 0 else None


def _interpolate(points: dict[float, float], target: float, power: float) -> float:
    """Return the size whose latency is the target, on the line through the two points nearest to it."""
    nearest = sorted(points, key=lambda size: abs(log(points[size] / target)))[:2]
    size, ratio = nearest[0], points[nearest[0]]
    if len(nearest) > 1:
        slope = log(points[nearest[1]] / ratio) / log(nearest[1] / size)
        power = min(max(slope, LEAST_POWER), MOST_POWER)
    return float(size * (target / ratio) ** (1 / power))
