"""Draw epochs that show the images of rare classes more often."""

import torch
from torch import Generator, Tensor


def draw_balanced(labels: Tensor, balance: float, rng: Generator) -> Tensor:
    """Draw an epoch with more images of rare classes; all images of a class occur equally often, give or take one.

    The share of a class of n images is proportional to n^(1 - balance) (Kang et al., 2019, section 3,
    https://arxiv.org/abs/1910.09217; they draw with replacement).

    Args:
        labels: int64 `(N,)`.
        balance: In [0, 1]; 0 shows each image once, 0.5 is square-root sampling, 1 shows all classes alike.
        rng: CPU generator.

    Returns:
        Indices, int64 `(N,)`, shuffled.
    """
    classes, sizes = labels.unique(return_counts=True)
    shares = sizes.double() ** (1 - balance)
    # Rounded ends instead of rounded parts: their differences add up to N exactly.
    ends = (shares.cumsum(0) / shares.sum() * len(labels)).round().long()
    draws = ends.diff(prepend=torch.zeros(1, dtype=torch.long))
    rows = [
        _repeat_rows((labels == label).nonzero()[:, 0], int(n), rng) for label, n in zip(classes, draws, strict=True)
    ]
    order = torch.cat(rows)
    return order[torch.randperm(len(order), generator=rng)]


def _repeat_rows(rows: Tensor, count: int, rng: Generator) -> Tensor:
    """Return `count` of some rows, repeating none before all occurred."""
    passes = [rows[torch.randperm(len(rows), generator=rng)] for _ in range(-(-count // len(rows)))]
    return torch.cat(passes)[:count] if passes else rows[:0]
