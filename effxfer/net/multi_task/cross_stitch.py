"""A copy of the body for each task, mixed at the end of each stage (Misra et al., 2016, https://arxiv.org/abs/1604.03539).

Shape legend: B batch, T tasks, D channels of a map, h and w its sides.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import reduce

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.net.compression.early_exit import ExitPoint
from effxfer.net.hooks import as_evaluated
from effxfer.net.net import BODY, Net
from effxfer.net.taps import example_input, pool, stage_maps

# The paper's units learn 100 to 1000 times as fast as the rest: with SGD this factor makes it 100, with Adam 10.
GAIN = 10.0


class StitchUnit(nn.Module):
    """Mixes the maps of T copies by a matrix of T x T weights, with the same weights for all channels.

    Args:
        tasks: T.
        start: Weight of a copy's own map at first; the others share the rest equally. 1 mixes nothing.
    """

    def __init__(self, tasks: int, start: float) -> None:
        super().__init__()
        off_diagonal = (1 - start) / max(tasks - 1, 1)
        self.register_buffer("start", torch.eye(tasks) * (start - off_diagonal) + off_diagonal)
        # What is learned on top, so that weight decay leads back to the start.
        self.change = nn.Parameter(torch.zeros(tasks, tasks))

    def forward(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """Map T times `(B, D, h, w)` to as many."""
        rows = self.get_buffer("start") + GAIN * self.change
        return [reduce(torch.add, [rows[i, j] * x for j, x in enumerate(xs)]) for i in range(len(xs))]


class StitchedPart(nn.Module):
    """A layer or stage of the body, T times, and what mixes their outputs if a stage ends here."""

    def __init__(self, part: nn.Module, tasks: int, start: float | None) -> None:
        super().__init__()
        self.copies = nn.ModuleList([part, *(deepcopy(part) for _ in range(tasks - 1))])
        self.unit = None if start is None else StitchUnit(tasks, start)

    def forward(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """Map T inputs to T outputs."""
        outputs = [part(x) for part, x in zip(self.copies, xs, strict=True)]
        return self.unit(outputs) if self.unit is not None else outputs


class CrossStitch(nn.Module):
    """Copies of a body that is a chain of layers: an input `(B, ...)` to the pooled features of all, `(B, T D)`.

    Attributes:
        parts: The layers, lowest first; by depth and not by copy, so that freezing and rates go by depth.
    """

    def __init__(self, parts: Sequence[StitchedPart], tasks: int) -> None:
        super().__init__()
        self.parts, self.tasks = nn.ModuleList(parts), tasks

    def forward(self, x: Tensor) -> Tensor:
        """Run all copies side by side."""
        xs = [x] * self.tasks
        for part in self.parts:
            xs = part(xs)
        return torch.cat([pool(each) for each in xs], 1)


def cross_stitch(net: Net, *, tasks: int, stages: Sequence[str], start: float) -> None:
    """Put a copy of the body for each task in the body's place, all with its weights.

    Args:
        net: Network, changed in place. Its head no longer fits.
        tasks: T, at least 2.
        stages: Submodules after which the copies are mixed.
        start: See `StitchUnit`.

    Raises:
        SettingsError: If the body is no chain of its layers, has copies, or is a ticket.
    """
    names = _chain_names(net.body, stages)
    if reason := _mistake(net, names, stages):
        text = f"the backbone {net.backbone['source']} cannot be copied for each task: {reason}"
        raise SettingsError(text, "take a convolutional network, such as timm:resnet18, or options.sharing=mtan")
    parts = [(net.body.get_submodule(name), start if name in stages else None) for name in names]
    prepares = net.body._forward_pre_hooks  # that of grey images
    net.body = CrossStitch([StitchedPart(part, tasks, mixed) for part, mixed in parts], tasks)
    net.body._forward_pre_hooks.update(prepares)


def stitched_stages(net: Net) -> list[str]:
    """Name the submodules after which copies of a body are mixed: the end of each stage.

    Raises:
        SettingsError: If the body has fewer than two stages of maps.
    """
    return list(dict.fromkeys(stage_maps(net)[1::2]))


def _chain_names(body: nn.Module, stages: Sequence[str]) -> list[str]:
    """Name the layers of a body in their order, stages one by one, up to where the body ends."""
    names = list[str]()
    for name, child in body.named_children():
        if isinstance(child, ExitPoint):
            break
        inside = [stage for stage in stages if stage.startswith(f"{name}.")]
        names += [f"{name}.{leaf}" for leaf, _ in child.named_children()] if inside else [name]
    return names


@torch.no_grad()
def _mistake(net: Net, names: Sequence[str], stages: Sequence[str]) -> str:
    """Return why copies of a body cannot be mixed; empty if they can."""
    if isinstance(net.body, CrossStitch):
        return f"it has {net.body.tasks} copies already"
    if any(name.startswith(BODY) for name in net.masks()):
        return "it is a ticket: train the copies first, and prune them then"
    if absent := [stage for stage in stages if stage not in names]:
        return f"{absent[0]} is none of the layers in its chain"
    # Not black, of which many layers make nothing.
    x = torch.from_numpy(net.input.example(2, seed=0)).to(example_input(net).device)
    with as_evaluated(net.body):
        expected = pool(net.outputs(x, ("out",))["out"])
        try:
            for hook in net.body._forward_pre_hooks.values():
                (x,) = hook(net.body, (x,))
            for name in names:
                x = net.body.get_submodule(name)(x)
            fits = isinstance(x, Tensor) and torch.equal(pool(x), expected)
        except Exception:  # a layer that takes more than its predecessor gives may raise anything
            fits = False
    return "" if fits else "its layers are no chain, between which copies could be mixed"
