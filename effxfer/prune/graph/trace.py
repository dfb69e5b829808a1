"""Trace the channels of a network through all operations of one forward pass.

DepGraph (Fang et al., 2023, https://arxiv.org/abs/2301.12900) reads off autograd which layers must lose channels
together. Here every tensor carries, along one of its axes, the numbers of the channels that it consists of, and what
merely moves elements (views, permutations, concatenation, splits, windows, shuffles) is done to those numbers as well:
so they arrive where the channels do, whatever lies between. What is not understood keeps its channels and is named.

Shape suffixes: K channels along the axis that carries them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._python_dispatch import TorchDispatchMode

from effxfer.prune.graph.channel_ids import (
    AxisIds,
    ChannelLabels,
    ChannelTrace,
    compact,
    hook_modules,
    tensors_in,
    varying_axes,
)
from effxfer.prune.graph.operations import Operation, label_outputs

OVER_CHANNELS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
WEIGHING = (_ConvNd, nn.Linear)
# MultiheadAttention is among them to be refused as a whole: inside, it is one fused operation.
HANDLED_LAYERS = (*WEIGHING, *OVER_CHANNELS, _BatchNorm, nn.PReLU, nn.MultiheadAttention)


@torch.no_grad()
def follow(net: nn.Module, example: Tensor) -> ChannelTrace:
    """Trace the channels of a network on one image.

    Args:
        net: Network in evaluation mode, on the CPU; unchanged.
        example: One input `(1, 3, S, S)`.

    Raises:
        Exception: Whatever the network raises.
    """
    watch = _Watch(net)
    with hook_modules(net, watch.enter, watch.leave), watch:
        output = net(example)
    trail = watch.labels.trail
    for tensor in tensors_in(output):
        # The network's outputs are what the caller expects.
        watch.labels.pin([watch.labels.of(tensor)], "gives them to whoever calls it")
    for name, ids in trail.loose.items():
        if axis_of(trail, ids) is None:
            trail.ties.pin(ids, f"they are tied to parts of {name}")
    return trail


def axis_of(trail: ChannelTrace, ids: Tensor) -> int | None:
    """Return the only axis of a parameter along which classes differ; None if there is no such axis or several."""
    axes = varying_axes(trail.ties.roots(compact(ids)))
    return axes[0] if len(axes) == 1 else None


def is_depthwise(module: nn.Module) -> bool:
    """Whether a convolution has one filter per channel."""
    return isinstance(module, _ConvNd) and module.groups > 1 and module.groups == module.in_channels


class _Watch(TorchDispatchMode):
    """Handle known layers as a whole, and observe every operation outside of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.labels, self._inside = ChannelLabels(net), 0

    def enter(self, name: str, module: nn.Module) -> None:
        """Suspend tracing inside a layer that is handled as a whole."""
        self.labels.enter(name)
        self._inside += isinstance(module, HANDLED_LAYERS)

    def leave(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Apply the rule of a layer that is handled as a whole."""
        if isinstance(module, HANDLED_LAYERS):
            if self._inside == 1:
                _follow_layer(self.labels, name, module, inputs, output)
            self._inside -= 1
        self.labels.leave()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Execute an operation and label its outputs."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not self._inside:
            tensors = [*tensors_in(list(args)), *tensors_in(list(kwargs.values()))]
            labels = [self.labels.of(tensor) for tensor in tensors]
            if any(label is not None for label in labels):
                outputs = list(tensors_in(output))
                operation = Operation(
                    func=func, args=args, kwargs=kwargs, tensors=tensors, labels=labels, outputs=outputs
                )
                label_outputs(self.labels, operation)
        return output


def _follow_layer(labels: ChannelLabels, name: str, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, *extra_inputs = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
    label = labels.of(x)
    if not isinstance(label, AxisIds | None) or isinstance(module, nn.MultiheadAttention | _ConvTransposeNd):
        labels.pin([label, *(labels.of(tensor) for tensor in extra_inputs)], "does with them what is not understood")
    elif is_depthwise(module):
        labels.set(output, _follow_depthwise(labels, name, module, label))
    elif isinstance(module, WEIGHING):
        labels.set(output, _weigh(labels, name, module, x, label))
    elif label is not None:
        labels.set(output, label)
        _scale(labels, name, module, x, label)


def _weigh(labels: ChannelLabels, name: str, module: Any, x: Tensor, label: AxisIds | None) -> AxisIds | None:
    """Follow a convolution or linear layer: it reads channels and writes new ones."""
    trail, linear = labels.trail, isinstance(module, nn.Linear)
    axis, groups = (x.dim() - 1, 1) if linear else (1, module.groups)
    outputs = module.out_features if linear else module.out_channels
    if name not in trail.makes:
        # One number for the same position of each group: groups must stay equally wide.
        trail.makes[name] = trail.ties.new_ids(outputs // groups).repeat(groups)
    if label is None:
        return labels.axis_label(axis, trail.makes[name])
    if label.axis != axis:
        trail.ties.pin(trail.makes[name], "it weighs positions, not channels")
        labels.pin([] if linear else [label], "weighs them like positions")
        return label if linear else None
    trail.tie_parts(label.ids, groups, f"a part of {name} reads something else")
    _note(trail, trail.reads, name, label.ids)
    return labels.axis_label(axis, trail.makes[name])


def _follow_depthwise(labels: ChannelLabels, name: str, module: Any, label: AxisIds | None) -> AxisIds | None:
    """Follow a depthwise convolution."""
    if label is None or label.axis != 1:
        labels.pin([label], "filters positions")
        return None
    ids = label.ids.repeat_interleave(module.out_channels // module.in_channels)
    _note(labels.trail, labels.trail.makes, name, ids)
    return labels.axis_label(1, ids)


def _scale(labels: ChannelLabels, name: str, module: Any, x: Tensor, label: AxisIds) -> None:
    """Follow a norm or PReLU: each channel is scaled alone or by statistics of all."""
    trail, count = labels.trail, _channels(module)
    if isinstance(module, nn.PReLU) and count == 1:
        return
    if isinstance(module, nn.LayerNorm | nn.RMSNorm) and _keeps_channels_apart(module, x, label, count):
        return
    # Each group of the norm must lose the same number, or their borders would shift.
    if isinstance(module, nn.GroupNorm) and 1 < module.num_groups < count:
        trail.tie_parts(label.ids, module.num_groups, f"a part of {name} norms something else")
    if count != len(label.ids) or (isinstance(module, nn.GroupNorm) and module.num_groups == count):
        labels.pin([label], "does with them what is not understood")
    _note(trail, trail.makes, name, label.ids)
    if isinstance(module, OVER_CHANNELS):
        trail.add_average(name, label.ids)
        trail.axes[name] = label.axis


def _channels(module: Any) -> int:
    """Number of channels of a norm or activation."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return int(module.normalized_shape[-1])
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    return int(module.num_parameters if isinstance(module, nn.PReLU) else module.num_features)


def _keeps_channels_apart(module: nn.Module, x: Tensor, label: AxisIds, count: int) -> bool:
    """Whether a norm is over another axis than the channels, so that channels stay independent."""
    plain = type(module) in (nn.LayerNorm, nn.RMSNorm) or count != len(label.ids)
    return plain and label.axis != x.dim() - 1 and x.shape[-1] == count


def _note(trail: ChannelTrace, record: dict[str, Tensor], name: str, ids_K: Tensor) -> None:
    """Record the channels of a layer; a second call ties them to those of the first."""
    trail.ties.tie(record.setdefault(name, ids_K), ids_K, f"{name} is used for something else, too")
