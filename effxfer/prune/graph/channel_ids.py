"""Channel ids of tensors, and the trace of one forward pass over them.

Shape suffixes: K channels along the axis that carries them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from effxfer.net.hooks import hooks
from effxfer.prune.graph.union_find import UnionFind

# A number for each element takes 8 bytes, 34 MB in all; larger ones (relative positions of many tokens) stay whole.
LARGEST_PARAMETER = 2**22


class AxisIds(NamedTuple):
    """The channels that a tensor consists of: `ids` `(K,)` along one `axis`."""

    axis: int
    ids: Tensor


class ElementIds(NamedTuple):
    """A number for every single element, of a parameter that no layer owns."""

    ids: Tensor


Label = AxisIds | ElementIds | None


@dataclass(kw_only=True, eq=False)
class ChannelTrace:
    """The record of one traced forward pass.

    Attributes:
        ties: The classes of channels.
        makes: By layer or norm, the numbers of its outputs `(K,)`.
        reads: By convolution or linear layer, those of its inputs `(K,)`.
        loose: By parameter that no layer owns, those of its elements.
        mixed: By norm, or by module that averages, the numbers over which that happens.
        axes: By norm over channels, the axis that they are along.
        sizes: Sizes that a module used when it moved channels: module, size, and the numbers of those channels.
        scaled: Modules whose attention divides by the root of the width of these numbers.
    """

    ties: UnionFind = field(default_factory=UnionFind)
    makes: dict[str, Tensor] = field(default_factory=dict)
    reads: dict[str, Tensor] = field(default_factory=dict)
    loose: dict[str, Tensor] = field(default_factory=dict)
    mixed: dict[str, Tensor] = field(default_factory=dict)
    axes: dict[str, int] = field(default_factory=dict)
    sizes: list[tuple[str, int, Tensor]] = field(default_factory=list)
    scaled: dict[str, Tensor] = field(default_factory=dict)

    def tie_parts(self, ids_K: Tensor, parts: int, reason: str) -> None:
        """Tie equal parts of channels position by position, so that each part loses the same number."""
        first, *following = ids_K.view(parts, -1)
        for part in following:
            self.ties.tie(first, part, reason)

    def add_average(self, place: str, ids_K: Tensor) -> None:
        """Record that a module averages over channels."""
        earlier = self.mixed.get(place)
        self.mixed[place] = ids_K if earlier is None else torch.cat([earlier, ids_K])


class ChannelLabels:
    """The labels of all tensors in one forward pass, and the module that is running.

    Args:
        net: Its parameters have labels from the start.
    """

    def __init__(self, net: nn.Module) -> None:
        self.trail = ChannelTrace()
        self._modules = [""]
        self._labels = dict[int, tuple[Tensor, Label]]()  # holds the tensors, so that no id is used twice
        self._loose = {id(parameter): name for name, parameter in net.named_parameters()}
        # Modules that know how many channels each part has, which need not be equally many.
        self.cuts_unequally = {n for n, module in net.named_modules() if getattr(module, "cuts_unequal_parts", False)}

    @property
    def place(self) -> str:
        """Name of the innermost running module."""
        return self._modules[-1]

    def enter(self, name: str) -> None:
        """Record the start of a module's forward pass."""
        self._modules.append(name)

    def leave(self) -> None:
        """Record the end of a module's forward pass."""
        self._modules.pop()

    def of(self, tensor: Any) -> Label:
        """Return the label of a tensor; None if it has none."""
        entry = self._labels.get(id(tensor))
        if entry:
            return entry[1]
        name = self._loose.get(id(tensor))
        if name is None or tensor.numel() > LARGEST_PARAMETER:
            return None
        if name not in self.trail.loose:
            self.trail.loose[name] = self.trail.ties.new_ids(tensor.numel()).view(tensor.shape)
        return ElementIds(self.trail.loose[name])

    def set(self, tensor: Tensor, label: Label) -> None:
        """Label a tensor."""
        # The tensor as well: Python would give its id to another one after its end.
        self._labels[id(tensor)] = tensor, label

    def pin(self, labels: Sequence[Label], reason: str) -> None:
        """Prevent the removal of channels; the reason names the running module."""
        for label in labels:
            if label is not None:
                self.trail.ties.pin(label.ids, f"{self.place or 'the network'} {reason}")

    def axis_label(self, axis: int, ids_K: Tensor) -> AxisIds | None:
        """Make a label; pin the channels instead if they are a single class, which must stay."""
        roots = self.trail.ties.roots(ids_K)
        # One class along the whole axis (a single channel, or all tied): without it nothing is left.
        if bool((roots == roots[0]).all()):
            self.trail.ties.pin(ids_K, "it is the only one")
            return None
        return AxisIds(axis, ids_K)

    def pack(self, ids: Tensor, prefer: int | None = None) -> AxisIds | None:
        """Reduce ids of single elements to one axis; elements at the same position of it are tied."""
        ties = self.trail.ties
        roots = ties.roots(compact(ids))
        axes = varying_axes(roots)
        if not axes:
            ties.pin(roots.flatten()[:1], "it is the only one")
            return None
        keep = prefer if prefer in axes else axes[-1]
        for d in set(range(roots.dim())) - set(axes):
            roots = roots.narrow(d, 0, 1)
        rows = roots.movedim(keep, -1).reshape(-1, roots.shape[keep])
        for row in rows[1:].unique(dim=0) if len(rows) > 1 else ():
            ties.tie(rows[0], row, f"{self.place} puts something else beside them")
        return self.axis_label(keep, ties.roots(rows[0]))


def compact(ids: Tensor) -> Tensor:
    """Drop the repetitions of broadcast axes (stride 0)."""
    for d in range(ids.dim()):
        # A broadcast axis holds one and the same number; expanded, it would cost its whole size.
        if ids.stride(d) == 0:
            ids = ids.narrow(d, 0, 1)
    return ids.contiguous()


def varying_axes(roots: Tensor) -> list[int]:
    """List the axes along which classes differ."""
    return [d for d in range(roots.dim()) if bool((roots != roots.narrow(d, 0, 1)).any())]


def spread(label: Label, tensor: Tensor) -> Tensor:
    """Expand a label to one id per element."""
    if isinstance(label, ElementIds):
        return label.ids
    if label is None:
        return torch.zeros((1,) * tensor.dim(), dtype=torch.long).expand(tensor.shape)
    shape = [1] * tensor.dim()
    shape[label.axis] = -1
    return label.ids.view(shape).expand(tensor.shape)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Iterate over all tensors in nested lists and tuples."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for part in values:
            yield from tensors_in(part)


@contextmanager
def hook_modules(net: nn.Module, enter: Any, leave: Any) -> Iterator[None]:
    """Call `enter` before and `leave` after the forward pass of every module, with its name first."""
    handles = []
    for name, module in net.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, _x, name=name: enter(name, m)))
        handles.append(module.register_forward_hook(lambda m, x, y, name=name: leave(name, m, x, y)))
    with hooks(handles):
        yield
