"""Positions of marker labels in a scatter plot, so that they cover neither each other nor other markers.

plotly puts every label on the side that it is told, whatever lies there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 860.0, 330.0  # pixels of the plot area on the page
LETTER, LINE = 6.2, 14.0  # pixels of a character and of a line in the page's font
SIDES = {
    "top center": (0, -1),
    "bottom center": (0, 1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, -1),
    "bottom right": (1, 1),
    "top left": (-1, -1),
    "bottom left": (-1, 1),
}


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, box: "Box") -> float:
        """Area of the intersection."""
        wide = min(self.right, box.right) - max(self.left, box.left)
        high = min(self.bottom, box.bottom) - max(self.top, box.top)
        return max(0.0, wide) * max(0.0, high)

    @property
    def outside_area(self) -> float:
        """Area beyond the plot's sides."""
        over = max(0.0, -self.left) + max(0.0, self.right - WIDTH)
        return over * (self.bottom - self.top)


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], sizes: Sequence[float], *, log: bool
) -> list[str]:
    """Choose the side of each marker on which its label covers least, one marker after the other.

    Args:
        points: `(x, y)` of the markers.
        names: Their labels.
        sizes: Their diameters in pixels.
        log: Whether the x axis is logarithmic.

    Returns:
        One of plotly's text positions per marker; empty if a third of the label would be covered on every side.
    """
    centres = _pixels(points, log)
    obstacles = [Box(x - s / 2, y - s / 2, x + s / 2, y + s / 2) for (x, y), s in zip(centres, sizes, strict=True)]
    positions = []
    for (x, y), name, size in zip(centres, names, sizes, strict=True):
        boxes = {side: _box(x, y, name, size, way) for side, way in SIDES.items()}
        cost = {side: box.outside_area + sum(map(box.overlap, obstacles)) for side, box in boxes.items()}
        best = min(cost, key=cost.__getitem__)
        # A third covered can still be read; the name is also in the hover text. Chosen by eye.
        fits = cost[best] <= LETTER * max(1, len(name)) * LINE / 3
        positions.append(best if fits else "")
        obstacles += [boxes[best]] if fits else []
    return positions


def _pixels(points: Sequence[tuple[float, float]], log: bool) -> list[tuple[float, float]]:
    xs = [math.log(x) if log else x for x, _ in points]
    ys = [y for _, y in points]
    low = min(xs) if log else min(0.0, *xs, 0.0)
    across, up = (max(xs) - low) or 1.0, (max(ys) - min(ys)) or 1.0
    return [
        # plotly leaves about 6 % free at each side.
        ((0.06 + 0.88 * (x - low) / across) * WIDTH, (0.94 - 0.88 * (y - min(ys)) / up) * HEIGHT)
        for x, y in zip(xs, ys, strict=True)
    ]


def _box(x: float, y: float, name: str, size: float, way: tuple[int, int]) -> Box:
    wide, reach = LETTER * max(1, len(name)), size / 2
    left = x - wide / 2 if way[0] == 0 else (x + reach if way[0] > 0 else x - reach - wide)
    top = y - LINE / 2 if way[1] == 0 else (y + reach if way[1] > 0 else y - reach - LINE)
    return Box(left, top, left + wide, top + LINE)
