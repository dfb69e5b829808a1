"""Confidence interval of a share."""

from math import sqrt

Z95 = 1.959963984540054  # normal quantile of a level of 95 %


def wilson(hits: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's interval of a share, in percent.

    Unlike the normal interval it stays within 0 and 100, and has a width where every example is right (Wilson, 1927,
    https://doi.org/10.1080/01621459.1927.10502953).

    Args:
        hits: Examples that are right.
        count: Examples, at least 1.
        z: Normal quantile of the level.

    >>> [round(end, 1) for end in wilson(10, 10)]
    [72.2, 100.0]
    """
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)
