"""The edits `resize` and `add_bias`: the sizes of layers after channels or features were removed.

A size is the shape of a tensor, or an attribute of a module that is a number, such as `out_channels`. Both are recorded
as plain values, from which a network of the same shape is built again.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.edit_limits import check_number, check_size
from effxfer.net.net import Edit, Net

Shapes = dict[str, list[int]]
Sizes = dict[str, dict[str, Any]]


def resize(net: nn.Module, *, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, Mapping[str, Any]]) -> None:
    """Set the shapes of tensors and the attributes of modules after pruning.

    Raises:
        ModelFileError: If an attribute is something else than a number, or than numbers.
    """
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        owner = net.get_submodule(path)
        old = getattr(owner, leaf)
        check_size(name, prod(shape), old.numel())
        new = torch.zeros(list(shape), dtype=old.dtype, device=old.device)
        setattr(owner, leaf, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
    for name, attributes in sizes.items():
        module = net.get_submodule(name)
        for attribute, value in attributes.items():
            if attribute.startswith("_") or (
                attribute not in _numeric_attributes(module) and hasattr(module, attribute)
            ):
                raise ModelFileError(f"{name}.{attribute} is no number that pruning may change", code="E404")
            check_number(f"{name}.{attribute}", getattr(module, attribute, None), value)
            setattr(module, attribute, tuple(value) if isinstance(value, list) else value)


def add_bias(net: nn.Module, *, layers: Sequence[str]) -> None:
    """Give layers without a bias one of zeros."""
    for name in layers:
        module = net.get_submodule(name)
        weight = module.get_parameter("weight")
        module.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device))


def measure_shapes(net: nn.Module) -> tuple[Shapes, Sizes]:
    """Return every tensor's shape and every module's numeric attributes, which pruning may change."""
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    return shapes, {name: _numeric_attributes(module) for name, module in net.named_modules()}


def resize_between(before: tuple[Shapes, Sizes], after: tuple[Shapes, Sizes], added: set[str] | None = None) -> Edit:
    """Return the `resize` edit from one result of `measure_shapes` to a later one.

    Args:
        before: Of the network before pruning.
        after: Of the pruned network.
        added: Tensors that another edit adds; None if there are none.

    Raises:
        ModelFileError: If other tensors came or went: they would need an edit of their own to be rebuilt.
    """
    (old_shapes, old_sizes), (shapes, sizes) = before, after
    if shapes.keys() - (added or set()) != old_shapes.keys():
        hint = "report the network's name: it needs a rule of its own"
        raise ModelFileError("pruning added or removed tensors", hint)
    changed = {
        name: {key: value for key, value in values.items() if old_sizes[name].get(key) != value}
        for name, values in sizes.items()
    }
    return {
        "kind": "resize",
        "shapes": {name: shape for name, shape in shapes.items() if old_shapes.get(name, shape) != shape},
        "sizes": {name: values for name, values in changed.items() if values},
    }


def record_resize(net: Net, before: tuple[Shapes, Sizes]) -> None:
    """Append the `resize` edit from `before` (a result of `measure_shapes`) to the network's present shapes.

    Raises:
        ModelFileError: If the network has other tensors than before.
    """
    net.edits.append(resize_between(before, measure_shapes(net)))


def _numeric_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that are numbers or tuples of integers, in their JSON form."""
    numbers: dict[str, Any] = {}
    for key, value in vars(module).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers[key] = value
        elif isinstance(value, tuple) and value and all(isinstance(v, int) for v in value):
            numbers[key] = list(value)
    return numbers
