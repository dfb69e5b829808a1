"""Kernel mean matching: weights that give the source the target's mean in a kernel's space (Huang et al., 2006).

https://proceedings.neurips.cc/paper/2006/hash/a2186aa7c086b46ad4e8bf81e2a3a19b-Abstract.html.

Shape legend: N examples of the source, M of the target, D features.
"""

import torch
from torch import Tensor

from effxfer.errors import SettingsError

# A matrix of N times N numbers: 200 MB.
MOST_EXAMPLES = 5000
# Measured on 2,000 examples: the objective changes by less than a millionth after 200.
STEPS = 300


def match_kernel_means(source: Tensor, target: Tensor, bound: float) -> Tensor:
    """Return the weight of each source example, float32 `(N,)`, from 0 to `bound`, of mean 1.

    It minimises `w K w / 2 - k w` by projected gradients with momentum (Beck & Teboulle 2009,
    https://doi.org/10.1137/080716542), where K and k hold a Gaussian kernel whose width is the median distance.

    Args:
        source: Features `(N, D)`.
        target: Features `(M, D)`.
        bound: At least 1.

    Raises:
        SettingsError: If there are too many examples.
    """
    if max(len(source), len(target)) > MOST_EXAMPLES:
        text = f"kmm compares all pairs of {len(source)} and {len(target)} examples, {MOST_EXAMPLES} at most"
        raise SettingsError(text, "take options.estimator = 'discriminator'")
    source, target = source.double(), target.double()
    width = torch.cdist(source, target).square().median().clamp_min(1e-12)
    kernel = (-torch.cdist(source, source).square() / width).exp()
    towards = len(source) / len(target) * (-torch.cdist(source, target).square() / width).exp().sum(1)
    # The largest eigenvalue is at most the largest row sum.
    step = 1 / kernel.sum(1).max()
    weights = ahead = torch.ones(len(source), dtype=torch.float64, device=source.device)
    for number in range(STEPS):
        moved = project(ahead - step * (kernel @ ahead - towards), bound)
        ahead = moved + number / (number + 3) * (moved - weights)
        weights = moved
    return weights.float()


def project(weights: Tensor, bound: float) -> Tensor:
    """Return the nearest weights from 0 to `bound` whose mean is 1."""
    low, high = float(-weights.max()), float(bound - weights.min())
    for _ in range(60):  # halving a range of some tens to 1e-16
        shift = (low + high) / 2
        below = float((weights + shift).clamp(0, bound).mean()) < 1
        low, high = (shift, high) if below else (low, shift)
    return (weights + high).clamp(0, bound)
