"""Magnitude pruning: the smallest weights go (Han et al., 2015, https://arxiv.org/abs/1506.02626)."""

from typing import Literal

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.mask import Mask

Scope = Literal["global", "layer"]


def magnitude(net: nn.Module, mask: Mask, *, sparsity: float, scope: Scope = "global") -> Mask:
    """Keep the largest weights.

    What `mask` removed stays removed. Of equally large weights the earlier one goes first. No layer loses its last
    weight, because a layer without weights cuts the network in two ("layer collapse",
    https://arxiv.org/abs/2006.05467); under `global`, other layers' weights go in its place.

    Args:
        net: The trained network.
        mask: What survived so far.
        sparsity: Share of all prunable weights to remove, in [mask's own sparsity, 1).
        scope: `global` ranks the weights of all layers together and removes exactly `round(sparsity * all)`;
            `layer` removes exactly `round(sparsity * layer)` from each layer, but never its last weight.

    Returns:
        A subset of `mask`.

    Raises:
        SettingsError: If `sparsity` is out of range, or would leave fewer weights than there are layers.
        ModelFileError: If a weight is NaN or infinite.
    """
    _check(mask, sparsity)
    scores = _scores(net, mask)
    if scope == "layer":
        return Mask({name: _strongest(s, _kept(s.numel(), sparsity)) for name, s in scores.items()})
    flat = torch.cat([s.flatten() for s in scores.values()])
    kept = len(flat) - round(sparsity * len(flat))
    if kept < len(scores):
        text = f"sparsity {sparsity} leaves {kept} of {len(flat)} weights to {len(scores)} layers"
        raise SettingsError(text, "lower it, or exclude layers")
    parts = _strongest(flat, kept).split([s.numel() for s in scores.values()])
    return Mask({name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)})


def _check(mask: Mask, sparsity: float) -> None:
    kept, total = mask.counts
    if not 0 <= sparsity < 1 or total - kept > round(sparsity * total):
        hint = "a ticket only shrinks: ask for more than it has lost already"
        raise SettingsError(f"sparsity must be in [{mask.sparsity:.4g}, 1), not {sparsity}", hint, code="E204")


def _scores(net: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """Absolute values; below zero where removed, infinite for the largest weight of each layer."""
    scores: dict[str, Tensor] = {}
    for name, keep in mask.keep.items():
        size = net.get_parameter(name).detach().abs()
        if not bool(size.isfinite().all()):
            raise ModelFileError(f"{name} holds NaN or infinity", "prune an intact network", code="E407")
        score = torch.where(keep.to(size.device), size, -1.0).contiguous()
        if bool(keep.any()):
            score.view(-1)[score.argmax()] = torch.inf
        scores[name] = score
    return scores


def _kept(weights: int, sparsity: float) -> int:
    return max(weights - round(sparsity * weights), 1)


def _strongest(scores: Tensor, kept: int) -> Tensor:
    removed = scores.flatten().argsort(stable=True)[: scores.numel() - kept]
    flat = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    return flat.index_fill_(0, removed, False).view_as(scores)
