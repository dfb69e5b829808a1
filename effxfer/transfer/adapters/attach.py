"""Attach adapters to a frozen body and detach them; shared by the adapter strategies."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from effxfer.errors import SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.merge import adapter_parameters, adapters, merge_
from effxfer.net.net import Edit, Net


def attach_adapter(net: Net, edit: Edit | None) -> Net:
    """Attach adapters to a network (or keep equal existing ones), and freeze everything but them and the head.

    Args:
        net: Network, changed in place.
        edit: The edit that adds them; None to train only the head.

    Raises:
        SettingsError: If the network has other adapters, which are not merged.
    """
    attached = adapters(net)
    if attached and attached != [edit]:
        names = " and ".join(edit["kind"] for edit in attached)
        text = f"the network has other adapters than those asked for: {names}, which are not merged"
        raise SettingsError(text, "start from the network that they were put on, or go on with the same settings")
    if edit and not attached:
        apply_edit(net, **edit)
    # After the edit, so that what it added is frozen with the rest and then freed by name.
    net.body.requires_grad_(False)
    for parameter in adapter_parameters(net):
        parameter.requires_grad_(True)
    return net


def detach_adapter(net: Net, *, merge: bool) -> Net:
    """Unfreeze a network, and optionally merge its adapters."""
    if merge:
        merge_(net)
    return net.requires_grad_(True)


def layers_of(net: Net, *kinds: type[nn.Module]) -> dict[str, nn.Module]:
    """Return the body's modules of some types by name, without those of adapters."""
    brought = {id(parameter) for parameter in adapter_parameters(net)}
    modules = {f"body.{name}": module for name, module in net.body.named_modules() if isinstance(module, kinds)}
    return {n: m for n, m in modules.items() if not any(id(p) in brought for p in m.parameters(recurse=False))}


def match_names(names: Sequence[str], patterns: Sequence[str], kind: str) -> list[str]:
    """Select the names that match a shell pattern, with or without `body.`; all without patterns.

    Raises:
        SettingsError: If a pattern matches no name.
    """
    if not patterns:
        return list(names)
    fits = {pattern: [n for n in names if _fits(n, pattern)] for pattern in patterns}
    for pattern, matches in fits.items():
        if not matches:
            raise SettingsError(f"no {kind} is named like {pattern!r}", f"they are: {', '.join(list(names)[:8])} ...")
    chosen = {name for matches in fits.values() for name in matches}
    return [name for name in names if name in chosen]


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removeprefix("body."), pattern)
