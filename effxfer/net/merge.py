"""Separate a network's adapters from its body, and merge those that only change weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.adapters.bottleneck import Bottleneck
from effxfer.net.adapters.lora import LowRank
from effxfer.net.adapters.prompts import Prompts
from effxfer.net.adapters.scaling import Scale, Shift
from effxfer.net.net import BODY_PREFIXES, Edit, Net

MERGEABLE = ("ia3", "lora", "ssf")
UNMERGEABLE = ("houlsby", "parallel_adapter", "prompts")
MODULES = (Bottleneck, LowRank, Prompts, Scale, Shift)


def adapters(net: Net) -> list[Edit]:
    """Return the edits of adapters that are not merged, in order."""
    return [edit for edit in net.edits if edit["kind"] in (*MERGEABLE, *UNMERGEABLE)]


def adapter_parameters(net: Net) -> list[nn.Parameter]:
    """Return the parameters of adapters that are not merged, each once."""
    unique = {p: None for module in net.modules() if isinstance(module, MODULES) for p in module.parameters()}
    return list(unique)


@torch.no_grad()
def merge_(net: Net) -> bool:
    """Merge adapters that only change weights into these weights, in place, and drop their edits.

    The weights become exactly the numbers that the layers computed with.

    Returns:
        Whether there was anything to merge.
    """
    for layer in list(_parametrized_layers(net)):
        _merge_layer(layer)
    before = len(net.edits)
    net.edits = [edit for edit in net.edits if edit["kind"] not in MERGEABLE]
    return len(net.edits) < before


def base_state(net: Net) -> dict[str, Tensor]:
    """Return the body's weights, buffers and masks by their names without adapters.

    The tensors are the network's own, without the adapters' changes.
    """
    added = tuple(f"{n}." for n, m in net.named_modules(remove_duplicate=False) if isinstance(m, MODULES))
    state = {
        n: t for n, t in net.state_dict().items() if n.startswith(BODY_PREFIXES) and not n.startswith(added or "/")
    }
    return {base_name(name): tensor for name, tensor in state.items()}


def base_name(name: str) -> str:
    """Return the name of a tensor without adapters.

    >>> base_name("body.stem.parametrizations.weight.original")
    'body.stem.weight'
    """
    path, mark, suffix = name.partition(".parametrizations.")
    return f"{path}.{suffix.removesuffix('.original')}" if mark and suffix.endswith(".original") else name


def _parametrized_layers(net: Net) -> Iterator[nn.Module]:
    """Yield the layers whose weights are changed by adapters of this package."""
    for layer in list(net.modules()):
        parametrizations: Any = getattr(layer, "parametrizations", {})
        if len(parametrizations) and all(
            isinstance(change, LowRank | Scale | Shift)
            for leaf in parametrizations
            for change in parametrizations[leaf]
        ):
            yield layer


def _merge_layer(layer: nn.Module) -> None:
    """Store the weights that a layer computes with, and restore its class.

    `torch.nn.utils.parametrize.remove_parametrizations` would change a class that copies of the layer share.
    """
    parametrizations: Any = layer.parametrizations
    merged = {leaf: (parametrizations[leaf].original, getattr(layer, leaf).detach()) for leaf in parametrizations}
    del layer.parametrizations
    layer.__class__ = type(layer).__bases__[0]
    for leaf, (original, value) in merged.items():
        # The parameter object stays, so that an optimizer, or a tied layer, keeps it.
        original.data = value
        layer.register_parameter(leaf, original)
