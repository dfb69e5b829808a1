"""Remove units from a network, or mask them out in place.

Shape suffixes: K channels of one layer, U units.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from effxfer.errors import ModelFileError
from effxfer.net.hooks import hooks
from effxfer.prune.graph.channel_ids import ChannelTrace
from effxfer.prune.graph.groups import RemovedUnits, Structure, Units, channels_of, query_scalers
from effxfer.prune.graph.macs import HINT
from effxfer.prune.graph.trace import WEIGHING, axis_of, is_depthwise

# Parts of names of widths in timm and torchvision; without them, a kernel size or a number of groups could be renamed.
WIDTHS = ("dim", "chs", "chan", "width", "feat", "planes", "dh")


@torch.no_grad()
def remove_units_(net: nn.Module, structure: Structure, removed: RemovedUnits) -> None:
    """Remove units from a network, in place; at least one of each kind must stay.

    Args:
        net: Network of the same shape as the one of `structure`.
        structure: Result of `units_in`.
        removed: Units to remove `(U,)`, by layer; layers without removed units may be omitted.

    Raises:
        ModelFileError: Naming the layer whose units cannot be removed.
    """
    trail, (removed_outputs, removed_inputs) = structure.trail, removed_channels(structure, removed)
    removed_classes = _removed_classes(structure, removed)
    for name in {**trail.makes, **trail.reads}:
        outputs, inputs = removed_outputs.get(name), removed_inputs.get(name)
        if _is_marked(outputs) or _is_marked(inputs):
            _narrow_(net.get_submodule(name), name, outputs, inputs)
    for name, ids in trail.loose.items():
        _narrow_parameter_(net, name, trail, ids, removed_classes)
    _rename_sizes_(net, trail, removed_classes)
    _rescale_(net, trail, removed_classes)
    for group in structure.units:
        if group.heads and group.layer in removed:
            attention: Any = net.get_submodule(group.layer)
            attention.num_heads -= int(removed[group.layer].sum())
            attention.attn_dim = attention.num_heads * attention.head_dim


def removed_channels(structure: Structure, removed: RemovedUnits) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return by layer which outputs and which inputs are removed with the units, `(K,)`."""
    trail, dead = structure.trail, _removed_classes(structure, removed)
    outputs = {name: dead[trail.ties.roots(ids)] for name, ids in trail.makes.items()}
    inputs = {name: dead[trail.ties.roots(ids)] for name, ids in trail.reads.items()}
    for group in structure.units:
        if group.heads and group.layer in removed:
            for sides, ours in ((group.makes, outputs), (group.reads, inputs)):
                for name, places in sides.items():
                    ours[name] = ours[name].index_fill(0, channels_of(places, removed[group.layer]), True)
    return outputs, inputs


def kept_output_positions(net: nn.Module, structure: Structure, removed: RemovedUnits) -> dict[str, list[int]]:
    """List the remaining outputs of each convolution or linear layer that loses some.

    Args:
        net: As it is before.
        structure: Result of `units_in`.
        removed: See `remove_units_`.

    Returns:
        By layer, positions; empty where `remove_units_` rescales the remaining outputs.
    """
    removed_outputs, trail = removed_channels(structure, removed)[0], structure.trail
    remaining = {
        name: (~outputs).nonzero()[:, 0].tolist()
        for name, outputs in removed_outputs.items()
        if _is_marked(outputs) and isinstance(net.get_submodule(name), WEIGHING)
    }
    scaled = [name for name, _ in _rescale_factors(trail, _removed_classes(structure, removed))]
    rescaled_layers = {layer for name in scaled for layer, _ in query_scalers(net.get_submodule(name))}
    return {
        name: [] if net.get_submodule(name) in rescaled_layers else positions for name, positions in remaining.items()
    }


def _removed_classes(structure: Structure, removed: RemovedUnits) -> Tensor:
    """Mark the removed classes of channels, `(classes,)`."""
    ties, dead = structure.trail.ties, torch.zeros(len(structure.trail.ties), dtype=torch.bool)
    for group in structure.units:
        if not group.heads and group.layer in removed:
            name, places = next(iter(group.makes.items()))
            # One layer is enough: all channels of a class have the same root.
            dead |= ties.mask(structure.trail.makes[name][channels_of(places, removed[group.layer])])
    return dead


def _is_marked(marked: Tensor | None) -> bool:
    return marked is not None and bool(marked.any())


def _narrow_(layer: Any, name: str, made_K: Tensor | None, read_K: Tensor | None) -> None:
    """Remove outputs and inputs of a layer, in place."""
    rows, columns = (None if k is None else (~k).nonzero()[:, 0] for k in (made_K, read_K))
    if any(remaining is not None and not len(remaining) for remaining in (rows, columns)):
        raise ModelFileError(f"the channels of {name} cannot be removed: it would lose all of them", HINT)
    weighs = isinstance(layer, WEIGHING)
    if weighs and columns is not None and not is_depthwise(layer):
        groups = int(getattr(layer, "groups", 1))
        remaining = (~read_K).view(groups, -1)  # type: ignore[operator]
        # One kernel tensor holds all groups: they must stay equally wide.
        if not bool((remaining == remaining[0]).all()):
            raise ModelFileError(f"the channels of {name} cannot be removed: its groups would differ", HINT)
        _select_(layer, ("weight",), 1, remaining[0].nonzero()[:, 0])
    if rows is not None:
        _select_(layer, ("weight", "bias", "running_mean", "running_var"), 0, rows)
    _set_sizes_(layer, None if rows is None else len(rows), None if columns is None else len(columns))


def _select_(module: nn.Module, leaves: Collection[str], dim: int, positions: Tensor) -> None:
    """Keep slices of tensors of a module."""
    for leaf in leaves:
        old = getattr(module, leaf, None)
        if isinstance(old, Tensor) and old.dim() > dim:
            new = old.index_select(dim, positions.to(old.device)).clone()
            setattr(module, leaf, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def _set_sizes_(layer: Any, rows: int | None, columns: int | None) -> None:
    """Update the size attributes of a layer."""
    if isinstance(layer, _ConvNd):
        if is_depthwise(layer) and rows is not None:
            each = layer.out_channels // layer.in_channels
            layer.groups = layer.in_channels = rows // each
        layer.out_channels = rows or layer.out_channels
        layer.in_channels = columns or layer.in_channels
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = rows or layer.out_features, columns or layer.in_features
    elif isinstance(layer, _BatchNorm):
        layer.num_features = rows or layer.num_features
    elif isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        layer.normalized_shape = (rows or layer.normalized_shape[0],)
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = rows or layer.num_channels
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = rows or layer.num_parameters


def _narrow_parameter_(net: nn.Module, name: str, trail: ChannelTrace, ids: Tensor, dead: Tensor) -> None:
    roots = trail.ties.roots(ids)
    if not bool(dead[roots].any()):
        return
    axis = axis_of(trail, ids)
    assert axis is not None
    line = roots.movedim(axis, -1).reshape(-1, roots.shape[axis])[0]
    owner, _, leaf = name.rpartition(".")
    _select_(net.get_submodule(owner), (leaf,), axis, (~dead[line]).nonzero()[:, 0])


def _rename_sizes_(net: nn.Module, trail: ChannelTrace, dead: Tensor) -> None:
    """Correct the attributes in which modules hold a number of channels.

    A module that cuts or reshapes channels often holds their number as an attribute. One that is equal to a number
    that was used, and is called like a width, is set to what is left; whether that is right, the outputs tell.
    """
    new_sizes: dict[tuple[str, str], int] = {}
    for name, size, ids in trail.sizes:
        for attribute, value in vars(net.get_submodule(name)).items():
            named = type(value) is int and value == size and any(word in attribute for word in WIDTHS)
            if named:
                # The first use decides: a later one may be of another tensor of the same size.
                new_sizes.setdefault((name, attribute), int((~dead[trail.ties.roots(ids)]).sum()))
    for (name, attribute), width in new_sizes.items():
        setattr(net.get_submodule(name), attribute, width)


def _rescale_factors(trail: ChannelTrace, dead: Tensor) -> Iterator[tuple[str, float]]:
    """Yield each attention layer with narrower heads, and the root of the remaining share of their width."""
    for name, ids in trail.scaled.items():
        remaining = int((~dead[trail.ties.roots(ids)]).sum())
        if remaining < len(ids):
            yield name, (remaining / len(ids)) ** 0.5


def _rescale_(net: nn.Module, trail: ChannelTrace, dead: Tensor) -> None:
    """Keep the temperature of attention that divides by the root of its width."""
    for name, factor in _rescale_factors(trail, dead):
        attention: Any = net.get_submodule(name)
        for layer, count in query_scalers(attention):
            for leaf in ("weight", "bias"):
                tensor = getattr(layer, leaf, None)
                if tensor is not None:
                    # Queries shrink by as much as the division by a smaller root lets them grow.
                    tensor[:count] *= factor
        if isinstance(getattr(attention, "scale", None), float):
            attention.scale /= factor


@contextmanager
def mask_units(net: nn.Module, structure: Structure, removed: RemovedUnits) -> Iterator[bool]:
    """Mask units out without removing them: their outputs are zero, and no layer reads them.

    Norms over channels average over the others alone, as they will without them, until the context ends; the weights
    stay cut.

    Yields:
        Whether removing them must give the same outputs: not so where something else averages over channels.
    """
    removed_outputs, removed_inputs = removed_channels(structure, removed)
    handles = []
    with torch.no_grad():
        for name, inputs in removed_inputs.items():
            if _is_marked(inputs):
                _zero_inputs_(net.get_submodule(name), inputs.nonzero()[:, 0].tolist())
        for name, outputs in removed_outputs.items():
            layer = net.get_submodule(name)
            if _is_marked(outputs) and name in structure.trail.axes:
                handles.append(layer.register_forward_hook(_partial_norm_hook(structure.trail.axes[name], ~outputs)))
            elif _is_marked(outputs) and not isinstance(layer, nn.PReLU):
                _zero_outputs_(layer, outputs)
    ties, dead = structure.trail.ties, _removed_classes(structure, removed)
    averaging = {name for name, ids in structure.trail.mixed.items() if bool(dead[ties.roots(ids)].any())}
    with hooks(handles):
        yield averaging <= structure.trail.axes.keys()


def _zero_inputs_(layer: nn.Module, positions: list[int]) -> None:
    """Zero what a layer reads from some inputs, in place."""
    weight = layer.get_parameter("weight")
    groups = getattr(layer, "groups", 1)
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    for position in positions:
        group, column = divmod(position, inputs)
        weight[group * outputs : (group + 1) * outputs, column] = 0


def _zero_outputs_(layer: nn.Module, removed_K: Tensor) -> None:
    """Make some outputs of a layer zero, in place."""
    for leaf in ("weight", "bias", "running_mean"):
        tensor = getattr(layer, leaf, None)
        if tensor is not None:
            tensor[removed_K] = 0


def _partial_norm_hook(axis: int, kept_K: Tensor) -> Any:
    """Make a hook that normalises the kept channels alone and zeroes the others."""
    places = kept_K.nonzero()[:, 0]

    def hook(layer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        positions = places.to(inputs[0].device)
        selected = inputs[0].index_select(axis, positions)
        weight, bias = (None if p is None else p[positions] for p in (layer.weight, getattr(layer, "bias", None)))
        if isinstance(layer, nn.GroupNorm):
            # With the number of groups that it has: each group lost the same number of channels.
            output = F.group_norm(selected, layer.num_groups, weight, bias, layer.eps)
        else:
            last, shape = selected.movedim(axis, -1), (len(positions),)
            root = isinstance(layer, nn.RMSNorm)
            normed = F.rms_norm(last, shape, weight, layer.eps) if root else F.layer_norm(
                last, shape, weight, bias, layer.eps
            )  # fmt: skip
            output = normed.movedim(-1, axis)
        return torch.zeros_like(inputs[0]).index_copy(axis, positions, output)

    return hook


def channels_per_unit(units: Units) -> Iterator[tuple[str, int, int]]:
    """Yield each layer with the number of its inputs and outputs that belong to one unit."""
    for name in {**units.makes, **units.reads}:
        reads, makes = (len(side[name][0]) // units.count if name in side else 0 for side in (units.reads, units.makes))
        yield name, reads, makes
