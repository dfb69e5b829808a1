"""RankMe: the effective rank of features, which needs no labels (Garrido et al., 2022).

https://arxiv.org/abs/2210.02885; the measure is that of Roy & Vetterli, 2007. Features that collapsed to a point have
rank 1, those that collapsed to a plane have rank 2 or 3.

Shape legend: N examples, D features.
"""

import torch
from torch import Tensor

SMALLEST = 1e-7  # the paper's, added to each share
# Chosen: more rows than most bodies have features; the singular values of 2,048 x 2,048 take seconds.
MOST_ROWS = 2048


def effective_rank(features: Tensor) -> float:
    """Return the exponential of the entropy of the singular values, between 1 and `min(N, D)`.

    Args:
        features: `(N, D)`, as they are: the mean is not removed, so that a single point has rank 1.

    >>> round(effective_rank(torch.eye(8)), 3), round(effective_rank(torch.ones(8, 4)), 3)
    (8.0, 1.0)
    """
    values = torch.linalg.svdvals(features.double())
    total = values.sum()
    if total == 0:
        return 1.0
    shares = values / total + SMALLEST
    return float((-(shares * shares.log()).sum()).exp())


def sample_rows(count: int, limit: int = MOST_ROWS) -> Tensor:
    """Return at most `limit` of the row numbers below `count`, evenly spaced, int64."""
    return torch.linspace(0, count - 1, min(count, limit)).round().long()
