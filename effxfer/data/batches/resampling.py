"""Draw epochs that show the images of rare classes, or of small data tables, more often."""

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
    draws = _draws(sizes, balance)
    rows = [_repeat_rows((labels == label).nonzero()[:, 0], n, rng) for label, n in zip(classes, draws, strict=True)]
    order = torch.cat(rows)
    return order[torch.randperm(len(order), generator=rng)]


def draw_tables(tables: Tensor, balance: float, rng: Generator) -> Tensor:
    """Draw an epoch of several data tables, in which every stretch has rows of each in its share, give or take one.

    The share of a table of n rows is proportional to n^(1 - balance), that is temperature 1 / (1 - balance) of
    Raffel et al., 2020, section 3.5.2, https://arxiv.org/abs/1910.10683.

    Args:
        tables: Number of the table of each row, int64 `(N,)`.
        balance: In [0, 1]; 0 shows each row once, 1 shows all tables alike.
        rng: CPU generator.

    Returns:
        Indices, int64 `(N,)`.
    """
    numbers, sizes = tables.unique(return_counts=True)
    rows, places = list[Tensor](), list[Tensor]()
    for number, count in zip(numbers, _draws(sizes, balance), strict=True):
        rows.append(_repeat_rows((tables == number).nonzero()[:, 0], count, rng))
        # Evenly spread from a random start, so that no batch lacks a table that has a row for each.
        places.append((torch.arange(count) + torch.rand((), generator=rng)) / max(1, count))
    return torch.cat(rows)[torch.cat(places).argsort(stable=True)]


def _draws(sizes: Tensor, balance: float) -> list[int]:
    """Return how often rows of each class or table are drawn; their sum is that of the sizes."""
    shares = sizes.double() ** (1 - balance)
    # Rounded ends instead of rounded parts: their differences add up to N exactly.
    ends = (shares.cumsum(0) / shares.sum() * int(sizes.sum())).round().long()
    draws: list[int] = ends.diff(prepend=torch.zeros(1, dtype=torch.long)).tolist()
    return draws


def _repeat_rows(rows: Tensor, count: int, rng: Generator) -> Tensor:
    """Return `count` of some rows, repeating none before all occurred."""
    passes = [rows[torch.randperm(len(rows), generator=rng)] for _ in range(-(-count // len(rows)))]
    return torch.cat(passes)[:count] if passes else rows[:0]
