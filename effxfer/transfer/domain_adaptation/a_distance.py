"""Proxy A-distance: how well a linear classifier tells two domains apart (Ben-David et al., 2006).

https://proceedings.neurips.cc/paper/2006/hash/b1b0432ceafb0ce714426e9114852ac7-Abstract.html.

Shape legend: N, M examples, D features.
"""

import torch
from torch import Tensor, nn

from effxfer.transfer.fine_tuning.linear import solve_

LARGEST_SAMPLE = 2000  # of each domain; the error is then known to about a point
L2 = 0.01  # as for the density ratio


def a_distance(source: Tensor, target: Tensor) -> float:
    """Return `2 (1 - 2 e)`, with e the error on one half of a classifier that the other half trained.

    Args:
        source: Features `(N, D)`, N at least 2.
        target: Features `(M, D)`, M at least 2.

    Returns:
        From 0, the domains cannot be told apart, to 2.
    """
    count = min(len(source), len(target), LARGEST_SAMPLE)
    both = torch.cat([_spread(source, count), _spread(target, count)]).float().cpu()
    labels = torch.cat([torch.zeros(count), torch.ones(count)]).long()
    held_out = torch.arange(2 * count) % 2 == 1
    scaled = (both - both[~held_out].mean(0)) / both[~held_out].std(0).clamp_min(1e-6)
    head = nn.Linear(both.shape[1], 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    with torch.enable_grad():
        solve_(head, scaled[~held_out], labels[~held_out], L2)
    with torch.no_grad():
        wrong = (head(scaled[held_out]).argmax(1) != labels[held_out]).float().mean()
    # Worse than guessing is chance.
    return max(0.0, 2 * (1 - 2 * float(wrong)))


def _spread(features: Tensor, count: int) -> Tensor:
    """Select rows, evenly spaced."""
    return features[torch.linspace(0, len(features) - 1, count).round().long()]
