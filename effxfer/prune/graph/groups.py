"""Units of structured pruning: a channel with all layers that write or read it, or an attention head.

Which channels are tied is followed through one forward pass (see `trace`); attention heads
(https://arxiv.org/abs/1905.10650) are found by the attributes of their module, because what their number decides is
Python's business.

Shape suffixes: K channels of one layer, U units.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.prune.graph.channel_ids import ChannelTrace
from effxfer.prune.graph.macs import HINT
from effxfer.prune.graph.trace import WEIGHING, follow, is_depthwise
from effxfer.prune.graph.transaction import frozen_outputs
from effxfer.prune.network import layer_prefix, prunable_modules

Places = tuple[Tensor, Tensor]
RemovedUnits = dict[str, Tensor]  # by layer, whether each of its units leaves `(U,)`


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """The channels of one set of tied layers, or the heads of one attention layer.

    Attributes:
        layer: The first of the tied layers, or the attention layer.
        count: Number of units.
        makes: By layer or norm, channels of its output `(K,)` and the unit that each belongs to `(K,)`.
        reads: By layer, the same of its input.
        copies: Outputs of the layer per unit; above 1 in grouped convolutions.
        heads: Whether these are attention heads.
        within: The attention layer of whose heads these are the width; empty is none.
        mixed: A norm that averages over the units; empty is none.
        loose: Whether a parameter outside of any known layer takes part.
    """

    layer: str
    count: int
    makes: Mapping[str, Places]
    reads: Mapping[str, Places]
    copies: int = 1
    heads: bool = False
    within: str = ""
    mixed: str = ""
    loose: bool = False

    def all_of(self, places: Places, good_K: Tensor) -> Tensor:
        """Whether all channels of each unit are good, `(U,)`, given that flag for all channels of a layer."""
        channels, units = places
        bad = torch.bincount(units[~good_K[channels]], minlength=self.count)
        return bad == 0

    def total(self, places: Places, amount_K: Tensor) -> Tensor:
        """Sum a per-channel amount of a layer over each unit, `(U,)`."""
        channels, units = places
        return torch.zeros(self.count, dtype=amount_K.dtype).index_add_(0, units, amount_K[channels])


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """The removable units of a network.

    Attributes:
        units: All kinds of units, in the order in which the network makes them.
        refused: Reasons why units cannot be removed, by layer.
        trail: Trace of the tied channels.
    """

    units: list[Units]
    refused: dict[str, str]
    trail: ChannelTrace


def channels_of(places: Places, chosen_U: Tensor) -> Tensor:
    """Return the sorted channels of the chosen units."""
    channels, units = places
    selected: Tensor = channels[chosen_U[units]].unique()
    return selected


def units_in(net: nn.Module, example: Tensor, exclude: Collection[str] = (), *, widths: bool = False) -> Structure:
    """Find the removable units of a network.

    Args:
        net: Network in evaluation mode.
        example: One input `(1, 3, S, S)`.
        exclude: Shell patterns of layers whose outputs stay.
        widths: Whether the width of attention heads counts as well.

    Raises:
        ModelFileError: If the network cannot be traced.
        SettingsError: If a pattern matches nothing.
    """
    # On the CPU: ids are whole numbers, moved by thousands of small operations.
    twin = net if example.device.type == "cpu" else deepcopy(net).cpu()
    names = {module: name for name, module in net.named_modules()}
    frozen = {names[module] for module in frozen_outputs(net, tuple(exclude))}
    try:
        trail = follow(twin, example.cpu())
    except Exception as error:  # whatever a foreign network raises
        raise ModelFileError(f"the network cannot be traced: {error}", HINT) from error
    for name in frozen & trail.makes.keys():
        # Of a head without a reason: that it stays is no news.
        trail.ties.pin(trail.makes[name], "it is excluded" if name.startswith(layer_prefix(net)) else "")
    # Before the sets are made: narrower queries change the temperature unless somebody can make up for it.
    _pin_unscalable(net, trail)
    sets, refused = _unit_sets(net, trail), _pinned_reasons(net, trail)
    heads, without = _attention(net, frozen)
    owners = {f"{name}.qkv": name for name in (*(group.layer for group in heads), *without)}
    sets = [_with_owner(group, owners) for group in sets]
    return Structure(
        units=[group for group in sets if widths or not group.within] + heads, refused=refused | without, trail=trail
    )


def query_scalers(attention: Any) -> list[tuple[nn.Module, int]]:
    """List the layers that can absorb a factor of the queries, and how many of their outputs; empty if none can."""
    norm, query, qkv = (getattr(attention, leaf, None) for leaf in ("q_norm", "q", "qkv"))
    if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
        weight = getattr(norm, "weight", None)
        return [(norm, len(weight))] if isinstance(weight, Tensor) else []
    if isinstance(query, WEIGHING):
        return [(query, int(query.weight.shape[0]))]
    if isinstance(qkv, WEIGHING) and qkv.weight.shape[0] % 3 == 0:
        return [(qkv, int(qkv.weight.shape[0]) // 3)]
    return []


def _pin_unscalable(net: nn.Module, trail: ChannelTrace) -> None:
    for name, ids in trail.scaled.items():
        if not query_scalers(net.get_submodule(name)):
            trail.ties.pin(ids, f"the scale of {name} follows from its width")


def _with_owner(units: Units, owners: Mapping[str, str]) -> Units:
    owner = next((owners[name] for name in units.makes if name in owners), "")
    return Units(**{**vars(units), "within": owner}) if owner else units


def _unit_sets(net: nn.Module, trail: ChannelTrace) -> list[Units]:
    """Group classes of channels that are written and read by the same layers."""
    pinned, members = trail.ties.pin_reasons(), _members(trail)
    makers = {name for name in trail.makes if _has_weights(net, name)}
    averaged = {name: set(trail.ties.roots(ids).tolist()) for name, ids in trail.mixed.items()}
    sets: dict[Any, list[int]] = defaultdict(list)
    for root, uses in members.items():
        if root not in pinned and any(name in makers for kind, name in uses if kind == "makes"):
            # Same layers, same number of places in each: only such channels are interchangeable.
            sets[tuple((key, len(places)) for key, places in uses.items())].append(root)
    all_units, used_names = [], set[str]()
    for roots in sets.values():
        mixed = next((name for name, over in averaged.items() if not over.isdisjoint(roots)), "")
        units = _set(net, roots, [members[root] for root in roots], makers, used_names, mixed)
        used_names.add(units.layer)
        all_units.append(units)
    return all_units


def _members(trail: ChannelTrace) -> dict[int, dict[tuple[str, str], list[int]]]:
    """Map each class to its channels in the layers that write or read them, and in parameters without a layer."""
    members: dict[int, dict[tuple[str, str], list[int]]] = defaultdict(dict)
    for kind in ("makes", "reads", "loose"):
        for name, ids in getattr(trail, kind).items():
            key = kind, name
            for place, root in enumerate(trail.ties.roots(ids.contiguous()).flatten().tolist()):
                if root:
                    uses = members[root]
                    if key in uses:
                        uses[key].append(place)
                    else:
                        uses[key] = [place]
    return members


def _has_weights(net: nn.Module, name: str) -> bool:
    module = net.get_submodule(name)
    return isinstance(module, WEIGHING) and not is_depthwise(module)


def _set(
    net: nn.Module, roots: list[int], members: Sequence[Mapping[tuple[str, str], list[int]]], weighing: Collection[str],
    used_names: Collection[str], mixed: str,
) -> Units:  # fmt: skip
    sides: dict[str, dict[str, Places]] = {"makes": {}, "reads": {}}
    for kind, name in members[0]:
        if kind in sides and any(True for _ in net.get_submodule(name).parameters(recurse=False)):
            pairs = [(place, unit) for unit, uses in enumerate(members) for place in uses[kind, name]]
            channels, units = torch.tensor(sorted(pairs)).T
            sides[kind][name] = channels, units
    makers = [name for name in sides["makes"] if name in weighing]
    layer = next((name for name in makers if name not in used_names), "") or _number_part(makers[0], used_names)
    return Units(
        layer=layer, count=len(roots), makes=sides["makes"], reads=sides["reads"], mixed=mixed,
        copies=len(sides["makes"][makers[0]][0]) // len(roots), loose=any(kind == "loose" for kind, _ in members[0]),
    )  # fmt: skip


def _number_part(layer: str, used_names: Collection[str]) -> str:
    """Name a further part of a layer."""
    return next(name for part in range(2, len(used_names) + 3) if (name := f"{layer}, part {part}") not in used_names)


def _pinned_reasons(net: nn.Module, trail: ChannelTrace) -> dict[str, str]:
    """Map each layer to the reason why channels of it stay."""
    pinned, refused, prefix = trail.ties.pin_reasons(), dict[str, str](), layer_prefix(net)
    for name, ids in trail.makes.items():
        if name.startswith(prefix) and isinstance(net.get_submodule(name), WEIGHING):
            reasons = [pinned.get(root) for root in trail.ties.roots(ids).tolist()]
            text = next((reason for reason in reasons if reason), "")
            count = sum(reason is not None for reason in reasons)
            if text:
                # Only a part of it is pinned: the rest may leave, and the report says so.
                refused[name if count == len(reasons) else f"{name}, {count} of its {len(reasons)} channels"] = text
    return refused


def channels_in(module: nn.Module, reading: bool) -> int:
    """Number of channels that a layer reads or writes."""
    weight = module.get_parameter("weight")
    return int(weight.shape[1]) * int(getattr(module, "groups", 1)) if reading else int(weight.shape[0])


def _attention(net: nn.Module, frozen: Collection[str]) -> tuple[list[Units], dict[str, str]]:
    """Return the removable heads and, by attention layer, why its heads stay."""
    heads, refused = [], {}
    for name, module in prunable_modules(net):
        if hasattr(module, "num_heads"):
            reason = _unsupported_reason(module)
            if reason:
                refused[name] = reason
            elif f"{name}.qkv" not in frozen:
                heads.append(_heads(name, module))
    return heads, refused


def _unsupported_reason(attention: Any) -> str:
    """Explain why the heads of an attention layer cannot be removed; empty if they can."""
    qkv, proj = getattr(attention, "qkv", None), getattr(attention, "proj", None)
    if not (isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear)):
        return "its heads stay: it has no qkv and proj"
    width = int(getattr(attention, "attn_dim", 0))
    consistent = 0 < width == attention.num_heads * getattr(attention, "head_dim", 0)
    if not consistent or (qkv.out_features, proj.in_features) != (3 * width, width):
        return "its heads stay: their width is unknown"
    handled = {id(p) for leaf in ("qkv", "proj", "q_norm", "k_norm") for p in _parameters(attention, leaf)}
    foreign = [n for n, p in attention.named_parameters() if id(p) not in handled]
    return f"its heads stay: what {foreign[0]} does is not understood" if foreign else ""


def _parameters(attention: nn.Module, leaf: str) -> Iterator[nn.Parameter]:
    module = getattr(attention, leaf, None)
    return module.parameters() if isinstance(module, nn.Module) else iter(())


def _heads(name: str, attention: Any) -> Units:
    heads, width = int(attention.num_heads), int(attention.head_dim)
    unit_K = torch.arange(heads * width) // width
    rows = torch.arange(3 * heads * width), unit_K.repeat(3)
    columns = torch.arange(heads * width), unit_K
    return Units(
        layer=name, count=heads, makes={f"{name}.qkv": rows}, reads={f"{name}.proj": columns}, heads=True
    )  # fmt: skip
