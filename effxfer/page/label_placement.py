"""Where the names of markers go in a scatter plot, so that they cover neither each other nor other markers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 860.0, 330.0
LETTER, LINE = 6.2, 14.0
PLACES = {
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

    def shared(self, other: "Box") -> float:
        """Area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)

    @property
    def outside(self) -> float:
        """Area beyond the plot's sides."""
        over = max(0.0, -self.left) + max(0.0, self.right - WIDTH)
        return over * (self.bottom - self.top)


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], sizes: Sequence[float], *, log: bool
) -> list[str]:
    """Choose the side of each marker that its name covers least on, one after the other.

    Args:
        points: `(x, y)` of the markers.
        names: Their labels.
        sizes: Their diameters in pixels.
        log: Whether the x axis is logarithmic.

    Returns:
        One of plotly's text positions per marker; empty where every side would cover a third of the name.
    """
    centres = _pixels(points, log)
    taken = [Box(x - s / 2, y - s / 2, x + s / 2, y + s / 2) for (x, y), s in zip(centres, sizes, strict=True)]
    chosen = []
    for (x, y), name, size in zip(centres, names, sizes, strict=True):
        boxes = {place: _box(x, y, name, size, way) for place, way in PLACES.items()}
        cost = {place: box.outside + sum(map(box.shared, taken)) for place, box in boxes.items()}
        best = min(cost, key=cost.__getitem__)
        fits = cost[best] <= LETTER * max(1, len(name)) * LINE / 3
        chosen.append(best if fits else "")
        taken += [boxes[best]] if fits else []
    return chosen


def _pixels(points: Sequence[tuple[float, float]], log: bool) -> list[tuple[float, float]]:
    xs = [math.log(x) if log else x for x, _ in points]
    ys = [y for _, y in points]
    low = min(xs) if log else min(0.0, *xs, 0.0)
    across, up = (max(xs) - low) or 1.0, (max(ys) - min(ys)) or 1.0
    return [
        ((0.06 + 0.88 * (x - low) / across) * WIDTH, (0.94 - 0.88 * (y - min(ys)) / up) * HEIGHT)
        for x, y in zip(xs, ys, strict=True)
    ]


def _box(x: float, y: float, name: str, size: float, way: tuple[int, int]) -> Box:
    wide, reach = LETTER * max(1, len(name)), size / 2
    left = x - wide / 2 if way[0] == 0 else (x + reach if way[0] > 0 else x - reach - wide)
    top = y - LINE / 2 if way[1] == 0 else (y + reach if way[1] > 0 else y - reach - LINE)
    return Box(left, top, left + wide, top + LINE)
