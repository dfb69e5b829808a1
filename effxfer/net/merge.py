"""Tell a network's adapters from the body that they were put on, and merge what can be merged."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.adapters.bottleneck import Bottleneck
from effxfer.net.adapters.lora import LowRank
from effxfer.net.adapters.prompts import Prompts
from effxfer.net.adapters.scaling import Scale, Shift
from effxfer.net.net import KEEP, Edit, Net

MERGING = ("ia3", "lora", "ssf")
STAYING = ("houlsby", "parallel_adapter", "prompts")
MODULES = (Bottleneck, LowRank, Prompts, Scale, Shift)
OF_BODY = ("body.", KEEP + "body/")


def adapters(net: Net) -> list[Edit]:
    """Give the edits that put adapters on the network and are not merged, in order."""
    return [edit for edit in net.edits if edit["kind"] in (*MERGING, *STAYING)]


def adapter_parameters(net: Net) -> list[nn.Parameter]:
    """Give what adapters that are not merged consist of, each once."""
    found = {p: None for module in net.modules() if isinstance(module, MODULES) for p in module.parameters()}
    return list(found)


@torch.no_grad()
def merge_(net: Net) -> bool:
    """Put adapters that only change weights into those weights, in place; the edits that made them go.

    The weights become the very numbers that the layers computed with.

    Returns:
        Whether there was anything to merge.
    """
    for layer in list(_changed(net)):
        _settle(layer)
    before = len(net.edits)
    net.edits = [edit for edit in net.edits if edit["kind"] not in MERGING]
    return len(net.edits) < before


def base_state(net: Net) -> dict[str, Tensor]:
    """Give the body's weights, buffers and masks by the names that they have without adapters.

    The tensors are the network's own, without the adapters' changes.
    """
    added = tuple(f"{n}." for n, m in net.named_modules(remove_duplicate=False) if isinstance(m, MODULES))
    state = {n: t for n, t in net.state_dict().items() if n.startswith(OF_BODY) and not n.startswith(added or "/")}
    return {base_name(name): tensor for name, tensor in state.items()}


def base_name(name: str) -> str:
    """Give the name that a tensor has without adapters.

    >>> base_name("body.stem.parametrizations.weight.original")
    'body.stem.weight'
    """
    path, mark, rest = name.partition(".parametrizations.")
    return f"{path}.{rest.removesuffix('.original')}" if mark and rest.endswith(".original") else name


def _changed(net: Net) -> Iterator[nn.Module]:
    """The layers whose weights adapters of this package change."""
    for layer in list(net.modules()):
        held: Any = getattr(layer, "parametrizations", {})
        if len(held) and all(isinstance(change, LowRank | Scale | Shift) for leaf in held for change in held[leaf]):
            yield layer


def _settle(layer: nn.Module) -> None:
    """Give a layer the weights that it computes with, and the class that it had.

    `torch.nn.utils.parametrize.remove_parametrizations` would take them out of a class that copies of the layer share.
    """
    held: Any = layer.parametrizations
    settled = {leaf: (held[leaf].original, getattr(layer, leaf).detach()) for leaf in held}
    del layer.parametrizations
    layer.__class__ = type(layer).__bases__[0]
    for leaf, (original, value) in settled.items():
        original.data = value
        layer.register_parameter(leaf, original)
