"""Select the weights to keep by their scores."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.weights.mask import Mask

Scope = Literal["erk", "global", "layer"]
# More than float64 has bits: the bisection ends at neighbouring numbers.
HALVINGS = 64


def select(scores: Mapping[str, Tensor], mask: Mask, *, sparsity: float, scope: Scope = "global") -> Mask:
    """Keep the weights of the highest scores.

    What `mask` removed stays removed. Of equal scores the earlier weight goes first. No layer loses its last weight,
    because a layer without weights cuts the network in two ("layer collapse", https://arxiv.org/abs/2006.05467);
    under `global` and `erk`, other layers' weights go in its place.

    Args:
        scores: Scores by name, of the weight's shape; larger means keep. Removed weights are ignored.
        mask: Mask of the remaining weights.
        sparsity: Share of all prunable weights to remove, in [mask's own sparsity, 1).
        scope: `global` ranks the weights of all layers together and removes exactly `round(sparsity * all)`; `erk`
            removes as many, shared out among the layers as `kernel_counts` says; `layer` removes exactly
            `round(sparsity * layer)` from each layer, but never its last weight, and nothing where more is gone.

    Returns:
        A subset of `mask`.

    Raises:
        SettingsError: If `sparsity` is out of range, or would leave fewer weights than there are layers.
        ModelFileError: If a score is NaN or infinite.
    """
    budget = _budget(mask, sparsity)
    ranked = {name: _ranks(name, scores[name], keep) for name, keep in mask.keep.items()}
    if scope == "global":
        flat = torch.cat([score.flatten() for score in ranked.values()])
        parts = keep_strongest(flat, budget).split([score.numel() for score in ranked.values()])
        return Mask({name: part.view_as(ranked[name]) for name, part in zip(ranked, parts, strict=True)})
    counts = kernel_counts(mask, budget) if scope == "erk" else layer_counts(mask, sparsity)
    return Mask({name: keep_strongest(score, counts[name]) for name, score in ranked.items()})


def keep_strongest(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` highest scores; of equal ones the later. Boolean, of the shape of `scores`."""
    flat = scores.flatten()
    if count >= len(flat):
        return torch.ones_like(scores, dtype=torch.bool)
    # No full sort: a network has millions of weights.
    edge = flat.kthvalue(len(flat) - count).values
    chosen = flat > edge
    tied = (flat == edge).nonzero().flatten()
    chosen[tied[len(tied) - (count - int(chosen.sum())) :]] = True
    return chosen.view_as(scores)


def layer_counts(mask: Mask, sparsity: float) -> dict[str, int]:
    """Return the number of weights to keep per layer, at the same share for each and at least one."""
    surviving = {name: int(keep.sum()) for name, keep in mask.keep.items()}
    return {n: min(surviving[n], max(1, k.numel() - round(sparsity * k.numel()))) for n, k in mask.keep.items()}


def kernel_counts(mask: Mask, budget: int) -> dict[str, int]:
    """Share out the weights to keep as the Erdős-Rényi-Kernel rule does (Evci et al., 2020, https://arxiv.org/abs/1911.11134).

    The density of a layer is proportional to the sum of its weight's sides over their product, so that the number of
    its weights is proportional to their sum: small layers stay denser. No layer gets more weights than it has left;
    what it cannot take goes to the others. Whole numbers come from highest quotients (D'Hondt), so that no layer
    gains from a smaller total.

    Args:
        mask: Mask of the remaining weights.
        budget: Number of weights to keep, from one per layer to all remaining ones.
    """
    surviving = {name: int(keep.sum()) for name, keep in mask.keep.items()}
    part = {name: sum(keep.shape) for name, keep in mask.keep.items()}

    def minimum_per_layer(scale: float) -> dict[str, int]:
        return {name: min(surviving[name], max(1, int(scale * part[name]))) for name in surviving}

    low, high = 0.0, float(max(surviving.values(), default=0))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(minimum_per_layer(middle).values()) <= budget else (low, middle)
    counts = minimum_per_layer(low)
    for _ in range(budget - sum(counts.values())):
        layer = max(
            (n for n in surviving if counts[n] < surviving[n]), key=lambda name: part[name] / (counts[name] + 1)
        )
        counts[layer] += 1
    return counts


def _budget(mask: Mask, sparsity: float) -> int:
    """Number of weights to keep."""
    surviving, total = mask.counts
    if not 0 <= sparsity < 1 or total - surviving > round(sparsity * total):
        hint = "a ticket only shrinks: ask for more than it has lost already"
        raise SettingsError(f"sparsity must be in [{mask.sparsity:.4g}, 1), not {sparsity}", hint, code="E204")
    budget, layers = total - round(sparsity * total), sum(bool(keep.any()) for keep in mask.keep.values())
    if budget < layers:
        text = f"sparsity {sparsity} leaves {budget} of {total} weights to {layers} layers"
        raise SettingsError(text, "lower it, or exclude layers")
    return budget


def _ranks(name: str, scores: Tensor, keep: Tensor) -> Tensor:
    """Scores, below all others where removed and above all others for the best one of the layer."""
    keep = keep.to(scores.device)
    if not bool(scores[keep].isfinite().all()):
        raise ModelFileError(f"the scores of {name} are NaN or infinite", "prune an intact network", code="E407")
    ranks = torch.where(keep, scores.float(), -torch.inf).contiguous()
    if bool(keep.any()):
        # The best of each layer ranks above all: no layer is cut through (layer collapse).
        ranks.view(-1)[ranks.argmax()] = torch.inf
    return ranks
