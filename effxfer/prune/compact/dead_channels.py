"""Which units carry nothing, and why some that are dead must stay.

Shape suffixes: I input channels of a layer, U units.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from effxfer.prune.compact.constant_folding import DroppedInputs, fold_, foldable
from effxfer.prune.compact.noise_probe import ChannelActivity, probe
from effxfer.prune.graph.groups import Units, channels_of

Gone = dict[str, Tensor]
Why = dict[tuple[str, str], int]


def zero_dead_units_(net: nn.Module, example: Tensor, units: Sequence[Units]) -> tuple[Gone, Why]:
    """Cut off every unit that carries nothing, in place, until there is no further one; nothing is removed yet.

    What a dead channel still says, the constant of its bias and norm, goes into the layers that read it; and when
    nobody reads a channel any more, what only it has read is not read either.

    Args:
        net: In evaluation mode; computes the same afterwards.
        example: One input `(1, 3, S, S)`.
        units: What may leave; at least one of each kind stays.

    Returns:
        By layer, the units cut off `(U,)`; and, by layer and reason, how many dead ones stay.
    """
    gone = {one.layer: torch.zeros(one.count, dtype=torch.bool) for one in units}
    while True:
        flows = probe(net, example)
        fresh = {
            one.layer: all_but_one(removable_units(net, one, flows) & ~gone[one.layer], gone[one.layer])
            for one in units
        }
        if not any(bool(chosen.any()) for chosen in fresh.values()):
            return gone, dead_but_kept(net, units, gone, flows)
        fold_(net, dropped_inputs(net, units, fresh, flows))
        gone = {layer: gone[layer] | chosen for layer, chosen in fresh.items()}


def all_but_one(chosen_U: Tensor, gone_U: Tensor) -> Tensor:
    """Leave out the first of the chosen units, if no unit would stay with them gone."""
    if bool((chosen_U | gone_U).all()) and bool(chosen_U.any()):
        chosen_U = chosen_U.clone()
        chosen_U[chosen_U.nonzero()[0, 0]] = False
    return chosen_U


def removable_units(net: nn.Module, units: Units, flows: Mapping[str, ChannelActivity]) -> Tensor:
    """Which units `(U,)` can be cut off from every layer that reads them without changing what the network computes."""
    if not units.reads or units.mixed or not units.reads.keys() <= flows.keys():
        return torch.zeros(units.count, dtype=torch.bool)
    spare = torch.ones(units.count, dtype=torch.bool)
    for name, places in units.reads.items():
        spare &= units.all_of(places, _spare(net, name, flows[name]))
    return spare


def dropped_inputs(
    net: nn.Module,
    units: Iterable[Units],
    chosen: Gone,
    flows: Mapping[str, ChannelActivity],
    values: Mapping[str, Tensor] | None = None,
) -> dict[str, DroppedInputs]:
    """Say what cutting off the chosen units means for each layer that reads them.

    Args:
        net: The network.
        units: All of them.
        chosen: By layer, which are cut off `(U,)`.
        flows: What `probe` gave.
        values: By layer that reads, a number for each of its inputs `(I,)`; None is what constant inputs are.
    """
    channels: dict[str, list[Tensor]] = {}
    for one in units:
        for name, places in one.reads.items():
            found = channels_of(places, chosen[one.layer])
            if len(found):
                channels.setdefault(name, []).append(found)
    every = {name: torch.cat(parts).unique() for name, parts in channels.items()}
    said = {name: _said(net, name, flows[name]) if values is None else values[name] for name in every}
    return {name: DroppedInputs(channels=k, values=said[name][k], norm=flows[name].norm) for name, k in every.items()}


def dead_but_kept(net: nn.Module, units: Sequence[Units], gone: Gone, flows: Mapping[str, ChannelActivity]) -> Why:
    """Count the dead units that stay, by the layer in which they are dead and by reason."""
    counts: Why = {}
    for one in units:
        dead = {n: one.all_of(p, flows[n].still) for n, p in one.makes.items() if n in flows}
        if not dead:
            continue
        everywhere = torch.stack(list(dead.values())).all(0)
        for why, some_U in _reasons(net, one, flows):
            _count(counts, one.layer, why, everywhere & ~gone[one.layer] & some_U)
            everywhere = everywhere & ~some_U
        for name, dead_U in dead.items():
            for other, other_U in dead.items():
                _count(counts, name, f"{other} is tied to them, and alive there", dead_U & ~other_U)
                dead_U = dead_U & other_U
        part = "whole heads leave, and a part of theirs" if one.heads else "the same channel of another group"
        for name, (channels, unit_K) in one.makes.items():
            if name in flows and len(channels) > one.count:
                _count(counts, name, f"{part} is alive", flows[name].still[channels] & ~dead[name][unit_K])
    return counts


def _count(counts: Why, layer: str, why: str, units_U: Tensor) -> None:
    if bool(units_U.any()):
        counts[layer, why] = counts.get((layer, why), 0) + int(units_U.sum())


def _reasons(net: nn.Module, units: Units, flows: Mapping[str, ChannelActivity]) -> Iterable[tuple[str, Tensor]]:
    """Give what can keep a dead unit, the most telling first, and the units `(U,)` that it keeps."""
    everywhere = torch.ones(units.count, dtype=torch.bool)
    if units.mixed:
        yield f"{units.mixed} averages over channels", everywhere
    for name, places in units.reads.items():
        flow = flows[name]
        yield f"what {name} sees of them varies", ~units.all_of(places, flow.constant | ~flow.read)
        padded = ~units.all_of(places, _spare(net, name, flow))
        yield f"{name} pads with zeros, where their constant does not fold", padded
    yield "no layer is known to read them" if not units.reads else "one must stay", everywhere


def _spare(net: nn.Module, name: str, flow: ChannelActivity) -> Tensor:
    """Which inputs `(I,)` a layer can do without."""
    folds = flow.constant if foldable(net.get_submodule(name)) else flow.zero
    return ~flow.read | folds


def _said(net: nn.Module, name: str, flow: ChannelActivity) -> Tensor:
    """What constant inputs `(I,)` are, where it can be folded; 0 elsewhere."""
    return flow.value if foldable(net.get_submodule(name)) else torch.zeros_like(flow.value)
