"""Operate on a copy of a network, and take over what came of it only if it can be rebuilt from its edits."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from effxfer.errors import EffxferError, ModelFileError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.net import Net
from effxfer.prune.graph.macs import HINT, run
from effxfer.prune.weights.mask import matching


def traceable(net: Net) -> Net:
    """Copy a network such that all of it can be traced."""
    trial = deepcopy(net).eval().requires_grad_(True)
    trial.apply_masks_()
    return trial


def example_of(net: Net) -> Tensor:
    """Give one input `(1, 3, S, S)`, always the same."""
    size, device = net.preprocess.size, next(net.parameters()).device
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)


def fixed(net: Net, exclude: Sequence[str] = ()) -> list[nn.Module]:
    """The layers whose outputs stay: the head's, and what shell patterns exclude."""
    weighing = {n: m for n, m in net.named_modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)}
    own = [f"{name}.weight" for name in weighing if name.startswith("body.")]
    excluded = {name.removesuffix(".weight") for name in matching(exclude, own)}
    return [m for name, m in weighing.items() if name in excluded or not name.startswith("body.")]


def widths(net: Net) -> dict[str, int]:
    """Output channels of every convolution and linear layer."""
    layers = {n: m for n, m in net.named_modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)}
    return {n: m.out_features if isinstance(m, nn.Linear) else m.out_channels for n, m in layers.items()}


@torch.no_grad()
def adopt_(net: Net, trial: Net, example: Tensor) -> None:
    """Give `net` the edits, shapes and weights of `trial`, a changed copy of it.

    Raises:
        ModelFileError: If `trial` cannot be had from its edits alone; `net` then stays as it was.
    """
    fresh = rebuild(net.backbone, trial.edits, net.preprocess, net.classes).to(example.device).eval()
    fresh.load_state_dict(trial.state_dict())
    if not torch.equal(run(fresh, example), run(trial, example)):
        raise ModelFileError("the pruned network cannot be rebuilt: rebuilt, it computes something else", HINT)
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    for edit in trial.edits[len(net.edits) :]:
        apply_edit(net, **edit)
    net.load_state_dict(trial.state_dict())
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name not in frozen)


def weed(
    layers: Sequence[str], problem: Callable[[Sequence[str]], str], refused: dict[str, str], error: type[EffxferError]
) -> list[str]:  # fmt: skip
    """Leave out the layers that are a problem by themselves; `problem` is last called with what is left.

    Raises:
        EffxferError: Of the given kind, if the rest is a problem together.
    """
    bad = _culprits(layers, problem)
    if bad is None:
        return list(layers)
    refused |= bad
    left = [layer for layer in layers if layer not in bad]
    together = problem(left) if left else ""
    if together:
        raise error(f"{', '.join(left)} together: {together}", "report the network's name")
    return left


def _culprits(layers: Sequence[str], problem: Callable[[Sequence[str]], str]) -> dict[str, str] | None:
    """Halve the layers until those that are a problem by themselves are found; None if there is no problem."""
    text = problem(layers)
    if not text:
        return None
    if len(layers) == 1:
        return {layers[0]: text}
    middle = len(layers) // 2
    return (_culprits(layers[:middle], problem) or {}) | (_culprits(layers[middle:], problem) or {})
