"""The Pareto front of a cost and a gain."""

from collections.abc import Sequence

# Intervals of timings on a shared machine are a few percent wide: 3 % slower is as fast, as far as one can tell.
AS_FAST = 1.03


def pareto_front(points: Sequence[tuple[float, float]], *, ties: bool = True) -> list[int]:
    """Indices of the points that no other point beats, from the smallest cost to the largest.

    A point beats another if it is at least as good in both coordinates and better in one.

    Args:
        points: `(cost, gain)`: a small cost and a large gain are good.
        ties: Whether all of several equal points are on the front; otherwise only the first one.

    >>> pareto_front([(2.0, 90.0), (1.0, 80.0), (3.0, 85.0), (2.0, 90.0)])
    [1, 0, 3]
    >>> pareto_front([(2.0, 90.0), (1.0, 80.0), (3.0, 85.0), (2.0, 90.0)], ties=False)
    [1, 0]
    """
    front: list[int] = []
    # Equal costs: the larger gain first, so that what follows at this cost is beaten or a tie.
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1] or (ties and points[i] == points[front[-1]]):
            front.append(i)
    return front
