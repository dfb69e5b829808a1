"""Epochs that show the images of rare classes more often."""

import torch
from torch import Generator, Tensor


def resampled(labels: Tensor, balance: float, rng: Generator) -> Tensor:
    """Draw an epoch in which rare classes come more often, each image of a class as often as the others of it.

    A class of n images gets a share in proportion to n^(1 - balance) (Kang et al., 2019, section 3,
    https://arxiv.org/abs/1910.09217, who draw with replacement).

    Args:
        labels: int64 `(N,)`.
        balance: In [0, 1]; 0 shows each image once, 0.5 is square-root sampling, 1 shows all classes alike.
        rng: On the CPU.

    Returns:
        Indices, int64 `(N,)`, shuffled.
    """
    classes, sizes = labels.unique(return_counts=True)
    shares = sizes.double() ** (1 - balance)
    ends = (shares.cumsum(0) / shares.sum() * len(labels)).round().long()
    draws = ends.diff(prepend=torch.zeros(1, dtype=torch.long))
    rows = [_repeated((labels == one).nonzero()[:, 0], int(n), rng) for one, n in zip(classes, draws, strict=True)]
    order = torch.cat(rows)
    return order[torch.randperm(len(order), generator=rng)]


def _repeated(rows: Tensor, count: int, rng: Generator) -> Tensor:
    """Give `count` of some rows, all of them before any comes again."""
    passes = [rows[torch.randperm(len(rows), generator=rng)] for _ in range(-(-count // len(rows)))]
    return torch.cat(passes)[:count] if passes else rows[:0]
