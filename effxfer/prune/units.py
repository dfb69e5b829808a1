"""What leaves a network together: a channel with everything that makes and reads it, or an attention head.

Which channels are tied comes from the dependency graph (DepGraph, https://arxiv.org/abs/2301.12900); attention heads
(https://arxiv.org/abs/1905.10650) are found by the attributes of their module, because the graph does not see them.

Shape suffixes: K channels of one layer, U units.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.net.net import Net
from effxfer.prune.graph import HINT, OVER_CHANNELS, Graph
from effxfer.prune.surgery import fixed

Places = tuple[Tensor, Tensor]
WEIGHING = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """The channels of one set of tied layers, or the heads of one attention layer.

    Attributes:
        layer: The first of the tied layers, or the attention layer.
        count: How many there are.
        makes: By layer or norm, channels of its output `(K,)` and the unit that each belongs to `(K,)`.
        reads: By layer, the same of its input.
        copies: How many outputs of the layer one unit stands for; above 1 in grouped convolutions.
        heads: Whether these are attention heads.
        mixed: A norm that averages over the units; empty is none.
        loose: Whether a parameter outside of any known layer takes part.
    """

    layer: str
    count: int
    makes: Mapping[str, Places]
    reads: Mapping[str, Places]
    copies: int = 1
    heads: bool = False
    mixed: str = ""
    loose: bool = False

    def all_of(self, places: Places, good_K: Tensor) -> Tensor:
        """Say of each unit `(U,)` whether all of its channels are good, given that of all channels of a layer."""
        channels, units = places
        bad = torch.bincount(units[~good_K[channels]], minlength=self.count)
        return bad == 0

    def total(self, places: Places, amount_K: Tensor) -> Tensor:
        """Add up, for each unit `(U,)`, an amount given for all channels of a layer."""
        channels, units = places
        return torch.zeros(self.count, dtype=amount_K.dtype).index_add_(0, units, amount_K[channels])


def channels_of(places: Places, chosen_U: Tensor) -> Tensor:
    """Give the channels that belong to the chosen units, sorted."""
    channels, units = places
    found: Tensor = channels[chosen_U[units]].unique()
    return found


def units_in(net: Net, example: Tensor, exclude: Collection[str] = ()) -> tuple[list[Units], dict[str, str]]:
    """Find what could leave a network.

    Args:
        net: All of its parameters must require gradients.
        example: One input `(1, 3, S, S)`.
        exclude: Shell patterns of layers whose outputs stay.

    Returns:
        The units, and by layer why those of others cannot be told apart.

    Raises:
        ModelFileError: If the network cannot be traced, or its dependencies are not understood.
        SettingsError: If a pattern matches nothing.
    """
    stays = fixed(net, tuple(exclude))
    attention = {n: m for n, m in net.body.named_modules(prefix="body") if hasattr(m, "num_heads")}
    split = [m.qkv for m in attention.values() if isinstance(getattr(m, "qkv", None), nn.Linear)]
    graph, refused, found = Graph(net, example, [*stays, *split]), dict[str, str](), []
    for group in _groups(graph):
        units = _tied(graph, group)
        if isinstance(units, Units):
            found.append(units)
        else:
            refused[graph.names[group[0].dep.target.module]] = units
    for name, module in attention.items():
        why = _not_understood(module)
        if why:
            refused[name] = why
        elif module.qkv not in stays:
            found.append(_heads(name, module))
    return found, refused


def remove_units_(net: Net, example: Tensor, units: Collection[Units], gone: Mapping[str, Tensor]) -> None:
    """Remove units from a network, in place; at least one of each kind must stay.

    Args:
        net: All of its parameters must require gradients.
        example: As in `units_in`.
        units: What `units_in` found in a network of the same shape.
        gone: By layer, which units go `(U,)`; layers that lose none may be left out.

    Raises:
        ModelFileError: Naming the layer whose units cannot be removed.
    """
    lost = [u for u in units if u.layer in gone and bool(gone[u.layer].any())]
    plain = {u.layer: gone[u.layer].nonzero()[:, 0].tolist() for u in lost if not u.heads}
    if plain:
        Graph(net, example, fixed(net)).prune_(plain, {u.layer: u.copies for u in lost})
    for one in lost:
        if one.heads:
            _remove_heads_(net.get_submodule(one.layer), one, gone[one.layer])


def _groups(graph: Graph) -> list[Any]:
    try:
        return list(graph.groups())
    except (AttributeError, IndexError, RuntimeError, ValueError) as error:  # from torch-pruning's index mappings
        raise ModelFileError(f"what is tied to what in the network is not understood: {error}", HINT) from error


def _tied(graph: Graph, group: Any) -> Units | str:
    """Read one group off the graph, or say why not."""
    root, copies = group[0].dep.target.module, graph.copies(group)
    count = len(group[0].idxs) // copies
    makes, reads, mixed, loose = dict[str, Places](), dict[str, Places](), "", False
    for item in group:
        module, name = item.dep.target.module, graph.names.get(item.dep.target.module, "")
        loose |= isinstance(module, nn.Parameter)
        if not name or not any(True for _ in module.parameters(recurse=False)):
            continue
        reading = graph.reads(item.dep)
        if not hasattr(module, "weight") or max(item.idxs, default=0) >= channels_in(module, reading):
            return f"what is tied to them in {name} is not understood"
        places = torch.tensor(item.idxs), torch.tensor(item.root_idxs) % count
        (reads if reading else makes)[name] = places
        mixed = name if isinstance(module, OVER_CHANNELS) else mixed
    return Units(
        layer=graph.names[root], count=count, makes=makes, reads=reads, copies=copies, mixed=mixed, loose=loose
    )


def channels_in(module: nn.Module, reading: bool) -> int:
    """How many channels a layer reads, or makes."""
    weight = module.get_parameter("weight")
    return int(weight.shape[1]) * int(getattr(module, "groups", 1)) if reading else int(weight.shape[0])


def _not_understood(attention: Any) -> str:
    """Say why the heads of an attention layer cannot leave; empty if they can."""
    qkv, proj = getattr(attention, "qkv", None), getattr(attention, "proj", None)
    if not (isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear)):
        return "its heads stay: it has no qkv and proj"
    width = int(getattr(attention, "attn_dim", 0))
    told = 0 < width == attention.num_heads * getattr(attention, "head_dim", 0)
    if not told or (qkv.out_features, proj.in_features) != (3 * width, width):
        return "its heads stay: their width is not told"
    known = {id(p) for leaf in ("qkv", "proj", "q_norm", "k_norm") for p in _parameters(attention, leaf)}
    foreign = [n for n, p in attention.named_parameters() if id(p) not in known]
    return f"its heads stay: what {foreign[0]} does is not understood" if foreign else ""


def _parameters(attention: nn.Module, leaf: str) -> list[nn.Parameter]:
    module = getattr(attention, leaf, None)
    return list(module.parameters()) if isinstance(module, nn.Module) else []


def _heads(name: str, attention: Any) -> Units:
    heads, width = int(attention.num_heads), int(attention.head_dim)
    unit_K = torch.arange(heads * width) // width
    rows = torch.arange(3 * heads * width), unit_K.repeat(3)
    columns = torch.arange(heads * width), unit_K
    return Units(
        layer=name, count=heads, makes={f"{name}.qkv": rows}, reads={f"{name}.proj": columns}, heads=True
    )  # fmt: skip


def _remove_heads_(attention: Any, units: Units, gone_U: Tensor) -> None:
    """Remove heads `(U,)` from an attention layer, in place."""
    (rows,), (columns,) = ([channels_of(p, ~gone_U) for p in d.values()] for d in (units.makes, units.reads))
    qkv, proj, left = attention.qkv, attention.proj, int((~gone_U).sum())
    with torch.no_grad():
        for layer, leaf, dim, kept in ((qkv, "weight", 0, rows), (qkv, "bias", 0, rows), (proj, "weight", 1, columns)):
            old = getattr(layer, leaf)
            if old is not None:
                setattr(layer, leaf, nn.Parameter(old.index_select(dim, kept.to(old.device)).clone()))
    attention.num_heads, attention.attn_dim = left, left * attention.head_dim
    qkv.out_features, proj.in_features = len(rows), len(columns)
