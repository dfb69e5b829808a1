"""Draw episodes: small classification problems of a few classes with a few examples each.

Shape legend: W ways (classes of an episode), K examples of each.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor


class Episodes:
    """Draws the examples of episodes.

    Args:
        labels: int64 `(N,)`.
        size: Examples of each class, K; classes with fewer are never drawn.
    """

    def __init__(self, labels: NDArray[np.int64], size: int) -> None:
        rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        rows = [members for members in rows if len(members) >= size]
        self.size = size
        self.rows = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.int64)
        self.absent = torch.ones_like(self.rows, dtype=torch.bool)
        for number, members in enumerate(rows):
            self.rows[number, : len(members)] = torch.from_numpy(members)
            self.absent[number, : len(members)] = False

    def __len__(self) -> int:
        """Number of classes to draw from."""
        return len(self.rows)

    def draw(self, classes: Tensor, generator: Generator) -> Tensor:
        """Draw K different examples of each of the classes `(W,)`: indices `(W, K)`."""
        # Numbers in [0, 1), plus 1 where there is no example: the K least are a draw without repetition.
        keys = torch.rand(len(classes), self.rows.shape[1], generator=generator) + self.absent[classes]
        return self.rows[classes].gather(1, keys.topk(self.size, 1, largest=False).indices)
