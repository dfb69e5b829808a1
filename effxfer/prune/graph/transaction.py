"""Edit a copy of a network, and commit its sizes only if they can be rebuilt from plain values."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from effxfer.errors import EffxferError, ModelFileError
from effxfer.net.compression.resize import measure_shapes, record_resize
from effxfer.net.edits import rebuild
from effxfer.net.net import Edit, Net
from effxfer.prune.graph.macs import HINT, run
from effxfer.prune.graph.sizes import apply_sizes, sizes_between
from effxfer.prune.network import edit_, layer_prefix
from effxfer.prune.weights.mask import match_patterns

Network = TypeVar("Network", bound=nn.Module)


def copy_for_tracing(network: Network) -> Network:
    """Copy a network for tracing: in evaluation mode, nothing frozen, masked weights zero."""
    # A frozen weight has no gradient, which the importance and the probe would take for none.
    trial = deepcopy(network).eval().requires_grad_(True)
    if isinstance(trial, Net):
        trial.apply_masks_()
    return trial


def frozen_outputs(network: nn.Module, exclude: Sequence[str] = ()) -> list[nn.Module]:
    """List the layers whose outputs must stay: the head of a `Net`, and layers excluded by shell patterns.

    Raises:
        SettingsError: If a pattern matches no layer.
    """
    prefix = layer_prefix(network)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)}
    weights = [f"{name}.weight" for name in layers if name.startswith(prefix)]
    excluded = {name.removesuffix(".weight") for name in match_patterns(exclude, weights)}
    return [m for name, m in layers.items() if name in excluded or not name.startswith(prefix)]


def record_sizes_(trial: nn.Module, before: nn.Module) -> None:
    """Record the size changes of a `Net`; for other modules `commit_edits_` computes them."""
    if isinstance(trial, Net):
        record_resize(trial, measure_shapes(before))


@torch.no_grad()
def commit_edits_(network: nn.Module, trial: nn.Module, example: Tensor) -> list[Edit]:
    """Replace the sizes and weights of a network by those of `trial`, a changed copy, in place.

    Returns:
        The new edits, from which `apply_sizes` makes another instance of the same sizes.

    Raises:
        ModelFileError: If rebuilt from its edits alone, `trial` computes something else; `network` is unchanged then.
    """
    edits = new_edits(network, trial)
    copy = rebuild_network(network, edits).to(example.device).eval()
    copy.load_state_dict(trial.state_dict())
    # Exactly: both have the same weights and the same operations, so there is nothing to round.
    if not torch.equal(run(copy, example), run(trial, example)):
        raise ModelFileError("the pruned network cannot be rebuilt: rebuilt, it computes something else", HINT)
    # Edits make new parameters, all of which would be trained.
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    for edit in edits:
        edit_(network, **edit)
    network.load_state_dict(trial.state_dict())
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return edits


def new_edits(network: nn.Module, trial: nn.Module) -> list[Edit]:
    """List the edits that lead from a network to its changed copy."""
    if isinstance(network, Net) and isinstance(trial, Net):
        return trial.edits[len(network.edits) :]
    return sizes_between(network, trial)


def rebuild_network(network: nn.Module, edits: Sequence[Edit]) -> nn.Module:
    """Rebuild the network from the edits: a `Net` from scratch, any other module from a copy."""
    if isinstance(network, Net):
        return rebuild(network.backbone, [*network.edits, *edits], network.input, network.classes)
    copy = deepcopy(network)
    apply_sizes(copy, edits)
    return copy


def bisect_failures(
    layers: Sequence[str], problem: Callable[[Sequence[str]], str], error: type[EffxferError]
) -> tuple[list[str], dict[str, str]]:
    """Bisect for the layers that fail alone; the last call of `problem` has all the others.

    Args:
        layers: Names.
        problem: Function from a selection of them to its problem; empty if there is none.
        error: Kind of error to raise.

    Returns:
        The layers that pass together, and of each of the others what is wrong with it.

    Raises:
        EffxferError: Of the given kind, if the rest fails together.
    """
    failures = _failures(layers, problem)
    if failures is None:
        return list(layers), {}
    passing = [layer for layer in layers if layer not in failures]
    together = problem(passing) if passing else ""
    if together:
        raise error(f"{', '.join(passing)} together: {together}", "report the network's name")
    return passing, failures


def _failures(layers: Sequence[str], problem: Callable[[Sequence[str]], str]) -> dict[str, str] | None:
    """Halve the layers until those that fail by themselves are found; None if nothing fails."""
    text = problem(layers)
    if not text:
        return None
    if len(layers) == 1:
        return {layers[0]: text}
    middle = len(layers) // 2
    # What fails only together is in neither half: the caller tries the rest once more.
    return (_failures(layers[:middle], problem) or {}) | (_failures(layers[middle:], problem) or {})
