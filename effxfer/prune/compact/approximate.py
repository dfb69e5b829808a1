"""Approximate compaction: remove units whose loss changes outputs by at most an allowed error.

A unit is replaced by its mean, which the layers that read it absorb; what is lost is its variance times the weights
that read it, so those with the least of it, against the variance of the reader's outputs, go first (the idea of
https://arxiv.org/abs/1611.06440, with the output of each layer in place of the loss).

Shape suffixes: I input channels of a layer, U units.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.hooks import hooks
from effxfer.prune.channels.importance import per_channel
from effxfer.prune.compact.constant_folding import fold_
from effxfer.prune.compact.dead_channels import dropped_inputs, zero_dead_units_
from effxfer.prune.compact.noise_probe import probe, rows_of
from effxfer.prune.graph.groups import RemovedUnits, Units


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Moments of a layer's inputs and outputs.

    Attributes:
        mean: Mean of each input `(I,)`.
        variance: Variance of each input `(I,)`.
        output: Variance of all outputs together.
    """

    mean: Tensor
    variance: Tensor
    output: float


def remove_within_error(
    net: nn.Module, example: Tensor, units: Sequence[Units], masked: nn.Module, images: Sequence[Tensor],
    max_error: float,
) -> tuple[nn.Module, RemovedUnits]:  # fmt: skip
    """Mask out as many units, cheapest first, as the allowed error permits.

    Args:
        net: Network without the dead units; unchanged.
        example: One input `(1, 3, S, S)`.
        units: Units that may be removed; at least one of each kind is kept.
        masked: The network whose outputs count.
        images: Batches of network inputs `(B, 3, S, S)`.
        max_error: Largest `relative_change`, in (0, 1).

    Returns:
        A copy that reads fewer units, and by layer those that are cut off `(U,)`, the dead ones included.
    """
    flows, layer_moments = probe(net, example), moments(net, {name for group in units for name in group.reads}, images)
    means = {name: moment.mean for name, moment in layer_moments.items()}
    order = rank_units(net, units, layer_moments)

    def fold_cheapest(count: int) -> nn.Module:
        chosen = {group.layer: torch.zeros(group.count, dtype=torch.bool) for group in units}
        for layer, unit in order[:count]:
            chosen[layer][unit] = True
        trial = deepcopy(net)
        fold_(trial, dropped_inputs(trial, units, chosen, flows, means))
        return trial

    # A bisection: the change is taken to rise with the number of units, which it nearly does.
    low, high, best = 0, len(order) + 1, net
    while high - low > 1:
        middle = (low + high) // 2
        trial = fold_cheapest(middle)
        if relative_change(masked, trial, images) <= max_error:
            low, best = middle, trial
        else:
            high = middle
    # What is dead now, because only removed units read it, leaves too.
    best = deepcopy(best)
    removed, _ = zero_dead_units_(best, example, units)
    return best, removed


@torch.no_grad()
def relative_change(reference: nn.Module, candidate: nn.Module, batches: Iterable[Tensor]) -> float:
    """Return the largest difference between two networks' outputs, relative to the reference's largest output."""
    pairs = [(reference(batch), candidate(batch)) for batch in batches]
    scale = max(float(ours.abs().max()) for ours, _ in pairs)
    change = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
    return change / max(scale, 1e-12)


def rank_units(net: nn.Module, units: Sequence[Units], layer_moments: Mapping[str, Moments]) -> list[tuple[str, int]]:
    """Rank units by the effect of their variance on the layers that read them, lowest first.

    Units that are cut off already come first, at no cost; the dearest one of each kind is left out.
    """
    priced: list[tuple[float, str, int]] = []
    for group in units:
        if group.mixed or not group.reads or not group.reads.keys() <= layer_moments.keys():
            continue
        price = torch.zeros(group.count, dtype=torch.double)
        for name, places in group.reads.items():
            layer = net.get_submodule(name)
            weight = layer.get_parameter("weight").detach().double().cpu()
            variance = layer_moments[name].variance * per_channel(weight.square(), layer, reading=True)
            # Relative to the reader's own variance, so that layers of any scale compare.
            price += (group.total(places, variance) / max(layer_moments[name].output, 1e-30)).sqrt()
        # The dearest of each kind stays: a layer of no channels is none.
        order = price.argsort(stable=True)[:-1].tolist()
        priced += [(float(price[unit]), group.layer, unit) for unit in order]
    return [(layer, unit) for _, layer, unit in sorted(priced)]


@torch.no_grad()
def moments(net: nn.Module, layers: Iterable[str], batches: Iterable[Tensor]) -> dict[str, Moments]:
    """Measure the moments of layers, by name; layers that no image reaches are omitted."""
    sums: dict[str, list[Any]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows_in, rows_out = (rows_of(t, module).double().cpu() for t in (inputs[0], output))
            parts = (len(rows_in), rows_in.sum(0), rows_in.square().sum(0), rows_out.var(0, correction=0).sum())
            sums[name] = [a + b for a, b in zip(sums.get(name, [0, 0, 0, 0]), parts, strict=True)]

        return hook

    count = 0
    with hooks(net.get_submodule(name).register_forward_hook(note(name)) for name in layers):
        for batch in batches:
            net(batch)
            count += 1
    return {
        name: Moments(mean=s / n, variance=(sq / n - (s / n).square()).clamp_min(0), output=float(out) / count)
        for name, (n, s, sq, out) in sums.items()
    }
