"""Density ratio by a discriminator: the odds of a classifier of domains (Bickel et al., 2007).

https://doi.org/10.1145/1273496.1273507.

Shape legend: N examples of the source, M of the target, D features.
"""

import torch
from torch import Tensor, nn

from effxfer.transfer.fine_tuning.linear import solve_

# Chosen: without, a linear classifier of more features than examples separates any two domains, and all odds are 0.
L2 = 0.01


def discriminate(source: Tensor, target: Tensor, bound: float) -> Tensor:
    """Return the weight of each source example, float32 `(N,)`, from 0 to `bound`, of mean 1.

    Args:
        source: Features `(N, D)`.
        target: Features `(M, D)`.
        bound: At least 1.
    """
    logits = domain_logits(source, target)[: len(source)]
    # Odds of the target, less what the numbers of examples say.
    return normalize_weights((logits + torch.tensor(len(source) / len(target)).log()).exp(), bound)


def domain_logits(source: Tensor, target: Tensor) -> Tensor:
    """Return log-odds that examples are of the target, `(N + M,)`, by a linear classifier of standardised features."""
    both = torch.cat([source, target]).float()
    scaled = (both - both.mean(0)) / both.std(0).clamp_min(1e-6)
    # Both domains weigh the same number of examples as they have: the ratio of their sizes is taken out afterwards.
    labels = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).long().to(both.device)
    head = nn.Linear(both.shape[1], 2, device=both.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    with torch.enable_grad():
        solve_(head, scaled, labels, L2)
    with torch.no_grad():
        outputs: Tensor = head(scaled)
    return outputs[:, 1] - outputs[:, 0]


def normalize_weights(weights: Tensor, bound: float) -> Tensor:
    """Scale weights to the mean 1, with none above `bound`.

    What the bound cuts off is spread over the others in proportion.
    """
    weights = weights.double().clamp_min(1e-12)
    low, high = 0.0, float(bound / weights.min())
    for _ in range(100):  # a float64 has 53 binary digits; the mean rises with the scale
        scale = (low + high) / 2
        below = float((weights * scale).clamp_max(bound).mean()) < 1
        low, high = (scale, high) if below else (low, scale)
    return (weights * high).clamp_max(bound).float()
