"""Sensitivity: the rise of the loss without some channels of one set, or without a block, measured on data.

Norms see the statistics of the batch while this is measured, as they will once they are estimated anew; with the old
ones the damage looks far larger than what training starts from (EagleEye, https://arxiv.org/abs/2007.02491).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer import progress
from effxfer.net.compression.removed_block import RemovedBlock
from effxfer.net.heads.standardize import Standardize
from effxfer.prune.channels.selection import ScoredChannels
from effxfer.prune.graph.groups import Structure
from effxfer.prune.graph.removal import mask_units

Loss = Callable[[Any], float]  # of a network of the caller's class
# Chosen: four forward passes for each set, with all it may lose; the curve between them is taken as straight.
SHARES = (0.25, 0.5, 0.75)
# Chosen: 15 pairs, a forward pass each, as one set of tied layers takes four.
MOST_PAIRED = 6


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """The rise of the loss over the number of removed channels.

    Attributes:
        counts: Numbers of removed channels that were measured, ascending from 0.
        rises: Rise of the loss at these counts; 0 at first, never falling.
    """

    counts: tuple[int, ...]
    rises: tuple[float, ...]

    def __call__(self, removed: int) -> float:
        """Interpolate linearly; constant beyond the last measured count."""
        return float(np.interp(removed, self.counts, self.rises))


def loss_curves(
    net: nn.Module, structure: Structure, layers: Sequence[ScoredChannels], least: Mapping[str, int], loss: Loss
) -> dict[str, LossCurve]:  # fmt: skip
    """Measure a curve for every set of tied layers: its weakest quarter, half, three quarters and all it may lose.

    Args:
        net: Not changed.
        structure: Result of `units_in` for it.
        layers: The sets, with the importance of their channels.
        least: Number of channels to keep at least, by set.
        loss: Function from a network to its loss on some images.
    """
    probe = deepcopy(net)
    state = {name: tensor.clone() for name, tensor in probe.state_dict().items()}
    curves = dict[str, LossCurve]()
    with use_batch_statistics(probe), progress.bar("loss without channels", len(layers)) as advance:
        base = loss(probe)
        for channels in layers:
            weakest = channels.scores.argsort(stable=True).tolist()
            counts, rises = [0], [0.0]
            for count in _counts(len(weakest), least[channels.layer]):
                removed = torch.zeros(len(weakest), dtype=torch.bool)
                removed[weakest[:count]] = True
                with mask_units(probe, structure, {channels.layer: removed}):
                    # Never falling: on few images a network may seem better without some channels.
                    rises.append(max(rises[-1], _clip_to_finite(loss(probe) - base)))
                counts.append(count)
                # Masking zeroes weights, and batch norms may have counted.
                probe.load_state_dict(state)
            curves[channels.layer] = LossCurve(counts=tuple(counts), rises=tuple(rises))
            advance(1, channels.layer)
    return curves


def block_losses(net: nn.Module, names: Sequence[str], loss: Loss) -> dict[str, float]:
    """Measure the rise of the loss without each block, at least 0; the network is not changed."""
    probe = deepcopy(net)
    with use_batch_statistics(probe), progress.bar("loss without blocks", len(names)) as advance:
        base, rises = loss(probe), dict[str, float]()
        for name in names:
            block = probe.get_submodule(name)
            probe.set_submodule(name, RemovedBlock())
            rises[name] = max(0.0, _clip_to_finite(loss(probe) - base))
            probe.set_submodule(name, block)
            advance(1, name)
    return rises


def pair_losses(
    net: nn.Module, singles: Mapping[str, float], loss: Loss, limit: int = MOST_PAIRED
) -> dict[str, dict[str, float]]:
    """Measure how much more the loss rises without two blocks than without each of them alone.

    Args:
        net: Not changed.
        singles: Result of `block_losses`.
        loss: Function from a network to its loss on some images.
        limit: Number of blocks that are paired: those of least loss, because the others hardly leave.

    Returns:
        By block and other block, in both orders, the difference from the sum; pairs that were not measured are left
        out.
    """
    names = sorted(singles, key=lambda name: (singles[name], name))[:limit]
    couples = list(combinations(names, 2))
    probe, extras = deepcopy(net), dict[str, dict[str, float]]()
    with use_batch_statistics(probe), progress.bar("loss without two blocks", len(couples)) as advance:
        base = loss(probe)
        for first, second in couples:
            blocks = [probe.get_submodule(name) for name in (first, second)]
            for name in (first, second):
                probe.set_submodule(name, RemovedBlock())
            extra = max(0.0, _clip_to_finite(loss(probe) - base)) - singles[first] - singles[second]
            for name, block in zip((first, second), blocks, strict=True):
                probe.set_submodule(name, block)
            extras.setdefault(first, {})[second] = extras.setdefault(second, {})[first] = extra
            advance(1, f"{first}, {second}")
    return extras


@contextmanager
def use_batch_statistics(net: nn.Module) -> Iterator[None]:
    """Make BatchNorm use the statistics of each batch without storing them; all else is in evaluation mode."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and not isinstance(m, Standardize)]
    norms = [norm for norm in norms if norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    net.eval()
    for norm in norms:
        # The statistics of the batch normalise, and the stored ones stay.
        norm.momentum = 0.0
        norm.train()
    try:
        yield
    finally:
        net.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _counts(width: int, least: int) -> list[int]:
    limit = width - least
    counts = {min(round(width * share), limit) for share in SHARES} | {limit}
    return sorted(count for count in counts if count > 0)


def _clip_to_finite(rise: float) -> float:
    """Map a NaN or infinite rise to a large finite one."""
    # Larger than any loss, and small enough to be added.
    return rise if bool(torch.tensor(rise).isfinite()) else 1e9
