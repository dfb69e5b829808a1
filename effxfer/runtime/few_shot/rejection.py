"""Tell examples of no enrolled class by their distance from the nearest prototype.

Shape legend: B examples, C classes, D features.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ENTRY = "unknown_classes"  # of the metadata
TINY = 1e-12


@dataclass(frozen=True)
class Rejection:
    """Thresholds of the nearness, chosen on validation episodes when a file was exported.

    Attributes:
        distance: `euclidean` or `cosine`, of the file's head.
        thresholds: By number of images behind a prototype: a mean of five is nearer than a single image.
    """

    distance: str
    thresholds: Mapping[int, float]

    def threshold(self, shots: int) -> float:
        """Return the threshold for a class of so many images: that of the largest number measured up to it."""
        measured = [number for number in self.thresholds if number <= shots]
        return self.thresholds[max(measured) if measured else min(self.thresholds)]

    def accepts(
        self, features: NDArray[np.float32], prototypes: NDArray[np.float32], shots: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Tell for features `(B, D)` whether they are near enough to the nearest of prototypes `(C, D)`: `(B,)`."""
        near = nearness(features, prototypes, self.distance)
        limits = np.array([self.threshold(number) for number in shots])
        result: NDArray[np.bool_] = near.max(1) >= limits[near.argmax(1)]
        return result

    def to_json(self) -> str:
        """Write as an entry of a file's metadata."""
        plain = {str(shots): value for shots, value in self.thresholds.items()}
        return json.dumps({"distance": self.distance, "thresholds": plain}, sort_keys=True)


def read_rejection(extra: Mapping[str, str]) -> Rejection | None:
    """Read the entry of a file's metadata; None if the file has none, or one that is not understood."""
    try:
        raw = json.loads(extra[ENTRY])
        thresholds = {int(shots): float(value) for shots, value in raw["thresholds"].items()}
        usable = raw["distance"] in ("euclidean", "cosine") and thresholds and np.isfinite([*thresholds.values()]).all()
        return Rejection(str(raw["distance"]), thresholds) if usable else None
    except (LookupError, ValueError, TypeError, AttributeError):
        return None


def nearness(
    features: NDArray[np.float32], prototypes: NDArray[np.float32], distance: str
) -> NDArray[np.float32]:  # fmt: skip
    """Return how near features `(B, D)` are to prototypes `(C, D)`: `(B, C)`.

    It is minus the distance, or the cosine; unlike logits it means the same whatever the other classes are.
    """
    if distance == "cosine":
        features, prototypes = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY) for x in
                                (features, prototypes))  # fmt: skip
        cosines: NDArray[np.float32] = features @ prototypes.T
        return cosines
    # By differences, as products of large features lose what small distances are; C at a time, for memory.
    columns = [-np.linalg.norm(features - prototype, axis=1) for prototype in prototypes]
    return np.stack(columns, 1)
