"""Dead units: removal of units that carry nothing, and the reasons why some must stay.

Shape suffixes: I input channels of a layer, U units.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from effxfer.prune.compact.constant_folding import DroppedInputs, fold_, is_foldable
from effxfer.prune.compact.noise_probe import ChannelActivity, probe
from effxfer.prune.graph.groups import RemovedUnits, Units, channels_of

KeptCounts = dict[tuple[str, str], int]


def zero_dead_units_(net: nn.Module, example: Tensor, units: Sequence[Units]) -> tuple[RemovedUnits, KeptCounts]:
    """Mask out every unit that carries nothing, in place, until none is left; no layer shrinks yet.

    What a dead channel still says, the constant of its bias and norm, goes into the layers that read it; and when
    nobody reads a channel any more, what only it has read is not read either.

    Args:
        net: Network in evaluation mode; its outputs do not change.
        example: One input `(1, 3, S, S)`.
        units: Units that may be removed; at least one of each kind is kept.

    Returns:
        By layer, the units cut off `(U,)`; and, by layer and reason, how many dead ones stay.
    """
    removed = {group.layer: torch.zeros(group.count, dtype=torch.bool) for group in units}
    # Until nothing changes: a reader that loses its inputs may be dead itself.
    while True:
        flows = probe(net, example)
        newly_dead = {
            group.layer: all_but_one(removable_units(net, group, flows) & ~removed[group.layer], removed[group.layer])
            for group in units
        }
        if not any(bool(chosen.any()) for chosen in newly_dead.values()):
            return removed, dead_but_kept(net, units, removed, flows)
        fold_(net, dropped_inputs(net, units, newly_dead, flows))
        removed = {layer: removed[layer] | chosen for layer, chosen in newly_dead.items()}


def all_but_one(chosen_U: Tensor, removed_U: Tensor) -> Tensor:
    """Deselect the first chosen unit if otherwise no unit would remain."""
    if bool((chosen_U | removed_U).all()) and bool(chosen_U.any()):
        chosen_U = chosen_U.clone()
        # Any one would do; the first, so that the result is the same every time.
        chosen_U[chosen_U.nonzero()[0, 0]] = False
    return chosen_U


def removable_units(net: nn.Module, units: Units, flows: Mapping[str, ChannelActivity]) -> Tensor:
    """Mark the units `(U,)` that can be dropped by every layer that reads them without changing the output."""
    if not units.reads or units.mixed or not units.reads.keys() <= flows.keys():
        return torch.zeros(units.count, dtype=torch.bool)
    removable = torch.ones(units.count, dtype=torch.bool)
    for name, places in units.reads.items():
        removable &= units.all_of(places, _droppable_inputs(net, name, flows[name]))
    return removable


def dropped_inputs(
    net: nn.Module,
    units: Iterable[Units],
    chosen: RemovedUnits,
    flows: Mapping[str, ChannelActivity],
    values: Mapping[str, Tensor] | None = None,
) -> dict[str, DroppedInputs]:
    """Return the inputs to drop in each layer that reads the chosen units.

    Args:
        net: The network.
        units: All of them.
        chosen: Units to remove `(U,)`, by layer.
        flows: Result of `probe`.
        values: By layer that reads, a number for each of its inputs `(I,)`; None is what constant inputs are.
    """
    channels: dict[str, list[Tensor]] = {}
    for group in units:
        for name, places in group.reads.items():
            inputs = channels_of(places, chosen[group.layer])
            if len(inputs):
                channels.setdefault(name, []).append(inputs)
    every = {name: torch.cat(parts).unique() for name, parts in channels.items()}
    constants = {name: _constant_values(net, name, flows[name]) if values is None else values[name] for name in every}
    return {
        name: DroppedInputs(channels=k, values=constants[name][k], norm=flows[name].norm) for name, k in every.items()
    }


def dead_but_kept(
    net: nn.Module, units: Sequence[Units], removed: RemovedUnits, flows: Mapping[str, ChannelActivity]
) -> KeptCounts:
    """Count the dead units that stay, by the layer in which they are dead and by reason."""
    counts: KeptCounts = {}
    for group in units:
        dead = {n: group.all_of(p, flows[n].still) for n, p in group.makes.items() if n in flows}
        if not dead:
            continue
        everywhere = torch.stack(list(dead.values())).all(0)
        for reason, some_U in _reasons(net, group, flows):
            _count(counts, group.layer, reason, everywhere & ~removed[group.layer] & some_U)
            everywhere = everywhere & ~some_U
        for name, dead_U in dead.items():
            for second, second_U in dead.items():
                _count(counts, name, f"{second} is tied to them, and alive there", dead_U & ~second_U)
                dead_U = dead_U & second_U
        part = "whole heads leave, and a part of theirs" if group.heads else "the same channel of another group"
        for name, (channels, unit_K) in group.makes.items():
            if name in flows and len(channels) > group.count:
                _count(counts, name, f"{part} is alive", flows[name].still[channels] & ~dead[name][unit_K])
    return counts


def _count(counts: KeptCounts, layer: str, reason: str, units_U: Tensor) -> None:
    if bool(units_U.any()):
        counts[layer, reason] = counts.get((layer, reason), 0) + int(units_U.sum())


def _reasons(net: nn.Module, units: Units, flows: Mapping[str, ChannelActivity]) -> Iterable[tuple[str, Tensor]]:
    """Yield the reasons that keep dead units, the most specific first, with the units `(U,)` that they keep."""
    everywhere = torch.ones(units.count, dtype=torch.bool)
    if units.mixed:
        yield f"{units.mixed} averages over channels", everywhere
    for name, places in units.reads.items():
        flow = flows[name]
        yield f"what {name} sees of them varies", ~units.all_of(places, flow.constant | ~flow.read)
        padded = ~units.all_of(places, _droppable_inputs(net, name, flow))
        yield f"{name} pads with zeros, where their constant does not fold", padded
    yield "no layer is known to read them" if not units.reads else "one must stay", everywhere


def _droppable_inputs(net: nn.Module, name: str, flow: ChannelActivity) -> Tensor:
    """Mark the inputs `(I,)` that a layer can drop."""
    folds = flow.constant if is_foldable(net.get_submodule(name)) else flow.zero
    return ~flow.read | folds


def _constant_values(net: nn.Module, name: str, flow: ChannelActivity) -> Tensor:
    """Return the values of constant inputs `(I,)` where they can be folded; 0 elsewhere."""
    return flow.value if is_foldable(net.get_submodule(name)) else torch.zeros_like(flow.value)
