"""Distillation from the maps at the ends of a network's blocks, channel by channel.

FitNets (Romero et al., 2015, https://arxiv.org/abs/1412.6550) compares maps through a trained projection. A pruned
network needs none: its channels are some of the teacher's, and which ones is known. Each image then gives as many
targets as a map has numbers, so that few images teach much (Li et al., 2020, https://arxiv.org/abs/1812.01839).

Shape legend: B images, D channels, h and w sides of a map, n tokens.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn, tensor
from torch.nn import functional as F

from effxfer.net.layers import trace
from effxfer.net.net import Net
from effxfer.net.taps import example_input, stage_ends

# Keeps a map of zeros from dividing by 0.
TINY = 1e-6
KeptOutputs = Mapping[str, Sequence[int]]


def block_ends(net: Net) -> list[str]:
    """Name the submodules of the body that end a block: the members of each of its stages, and `out`."""
    ends = list[str]()
    for stage in stage_ends(net.body, example_input(net)):
        module = net.body.get_submodule(stage)
        members = list(module._modules) if isinstance(module, nn.Sequential) else []
        ends += [f"{stage}.{member}" for member in members] or [stage]
    return [*ends, "out"]


def kept_channels(net: Net, kept_outputs: KeptOutputs) -> dict[str, list[int] | None]:
    """Map the block ends of a pruned network to the channels that they have kept of the unpruned one; None is all.

    A block writes what its last layer writes. Blocks that were removed, and outputs that were scaled anew, are left
    out.

    Args:
        net: The pruned network.
        kept_outputs: By layer, the positions of the outputs that it kept (`PruneResult.kept_outputs`).
    """
    layers = [layer.name for layer in trace(net, example_input(net)[:1])]
    channels: dict[str, list[int] | None] = {}
    for end in block_ends(net):
        prefix = "body." if end == "out" else f"body.{end}."
        within = [name for name in layers if f"{name}.".startswith(prefix)]
        positions = kept_outputs.get(within[-1]) if within else []
        if positions is None or len(positions):
            channels[end] = None if positions is None else list(positions)
    return channels


def compose_kept(first: KeptOutputs, second: KeptOutputs) -> dict[str, list[int]]:
    """Name kept outputs by their positions before the first of two steps of pruning.

    >>> compose_kept({"a": [0, 2, 5], "b": [1]}, {"a": [0, 2], "c": [3]})
    {'a': [0, 5], 'b': [1], 'c': [3]}
    """
    composed = {name: list(positions) for name, positions in first.items()}
    for name, positions in second.items():
        before = composed.get(name)
        composed[name] = list(positions) if before is None else [before[i] for i in positions] if before else []
    return composed


def map_distance(student: Tensor, teacher: Tensor, positions: Sequence[int] | None) -> Tensor | None:
    """Return the mean squared difference of two maps as a share of the teacher's mean square.

    Args:
        student: Maps `(B, D, h, w)`, tokens `(B, n, D)` or features `(B, D)`.
        teacher: The same of the unpruned network; maps of another side are averaged to the student's.
        positions: Channels of the teacher that the student has; None for all.

    Returns:
        A scalar, 0 or above; None if the two do not belong together.
    """
    axis = -1 if teacher.dim() == 3 else 1
    if positions is not None:
        teacher = teacher.index_select(axis, tensor(positions, device=teacher.device))
    if teacher.dim() == 4 and teacher.shape[2:] != student.shape[2:]:
        teacher = F.adaptive_avg_pool2d(teacher, (student.shape[2], student.shape[3]))
    if teacher.shape != student.shape:
        return None
    student, teacher = student.float(), teacher.float()
    return F.mse_loss(student, teacher) / teacher.square().mean().clamp(min=TINY)
