"""Ids of channels, and the classes of channels that must be removed together (union-find).

Every channel that a layer makes has a number above 0; 0 is what belongs to no channel. Numbers that are tied are one
class (union-find), and a class either leaves as a whole or stays.
"""

import numpy as np
import torch
from torch import Tensor


class UnionFind:
    """The classes of channels of one network."""

    def __init__(self) -> None:
        self._parent = np.zeros(1, dtype=np.int64)
        self._pins: list[tuple[Tensor, str]] = []

    def __len__(self) -> int:
        """One more than the largest number."""
        return len(self._parent)

    def new_ids(self, count: int) -> Tensor:
        """Allocate ids for new channels, `(count,)`."""
        first = len(self._parent)
        self._parent = np.concatenate([self._parent, np.arange(first, first + count)])
        return torch.arange(first, first + count)

    def roots(self, ids: Tensor) -> Tensor:
        """Return the class of each channel, the smallest id in it; 0 stays 0."""
        roots = np.asarray(self._parent[ids.numpy()])
        while not np.array_equal(roots, further := self._parent[roots]):
            roots = np.asarray(further)
        return torch.from_numpy(roots)

    def tie(self, first: Tensor, second: Tensor, reason: str) -> None:
        """Tie channels at equal positions; a channel opposite a 0 is pinned with `reason`."""
        first_roots, second_roots = self.roots(first).flatten(), self.roots(second).flatten()
        lone = (first_roots == 0) != (second_roots == 0)
        if bool(lone.any()):
            self.pin(first_roots[lone] + second_roots[lone], reason)
        pairs = torch.stack([first_roots, second_roots])[:, ~lone & (first_roots != second_roots)].unique(dim=1)
        for a, b in pairs.T.tolist():
            a, b = self._root(a), self._root(b)
            # The smaller one is the root: `roots` is then the same whatever order ties came in.
            self._parent[max(a, b)] = min(a, b)

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            # Halves the path: chains of thousands of ties stay short.
            self._parent[number] = self._parent[self._parent[number]]
            number = int(self._parent[number])
        return number

    def pin(self, ids: Tensor, reason: str) -> None:
        """Prevent the removal of channels, with a reason."""
        self._pins.append((ids.flatten(), reason))

    def pin_reasons(self) -> dict[int, str]:
        """Map each pinned class to the first reason that is not empty."""
        reasons: dict[int, str] = {}
        for ids, reason in self._pins:
            for root in self.roots(ids).unique().tolist():
                reasons[root] = reasons.get(root) or reason
        # 0 is what belongs to no channel.
        reasons.pop(0, None)
        return reasons

    def mask(self, ids: Tensor) -> Tensor:
        """Mark the classes of channels, `(classes,)`; index it with the result of `roots`."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[self.roots(ids)] = True
        mask[0] = False
        return mask
