"""Describe a network's layers by what decides their latency: kernel, stride, groups and number of positions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from effxfer.net.hooks import as_evaluated, hooks

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, order=True)
class Site:
    """Everything but the widths that decides a layer's latency.

    Attributes:
        kind: `conv`, `depthwise` (one or several filters per channel) or `linear`.
        kernel: Height and width; `(1, 1)` for linear layers.
        stride: Per axis.
        dilation: Per axis.
        groups: Groups of a grouped convolution; filters per channel of a depthwise one; else 1.
        size: Height and width of the input; `(rows, 1)` for linear layers.
        out: Height and width of the output.
    """

    kind: Literal["conv", "depthwise", "linear"]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    size: Pair
    out: Pair

    def __str__(self) -> str:
        fields = (self.kernel, self.stride, self.dilation, self.size, self.out)
        return f"{self.kind} g{self.groups} " + " ".join(f"{a}x{b}" for a, b in fields)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One call of a convolution or linear layer.

    Attributes:
        name: Of the module.
        site: Its shape.
        inputs: Channels that it reads.
        outputs: Channels that it writes.
    """

    name: str
    site: Site
    inputs: int
    outputs: int


@torch.no_grad()
def trace(net: nn.Module, example: Tensor) -> list[Layer]:
    """List the 2-D convolutions and linear layers in the order in which one forward pass calls them.

    Args:
        net: Its mode is kept; what is traced is evaluation.
        example: One input `(1, 3, S, S)` on the network's device.
    """
    layers: list[Layer] = []

    def record(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: layers.append(_layer(name, module, inputs[0], output))

    weighing = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    with as_evaluated(net), hooks(module.register_forward_hook(record(name)) for name, module in weighing.items()):
        net(example)
    return layers


def _layer(name: str, module: Any, x: Tensor, y: Tensor) -> Layer:
    if isinstance(module, nn.Linear):
        rows = (x.numel() // x.shape[-1] // x.shape[0], 1)
        site = Site(kind="linear", size=rows, out=rows)
        return Layer(name=name, site=site, inputs=module.in_features, outputs=module.out_features)
    depthwise = module.groups > 1 and module.groups == module.in_channels
    site = Site(
        kind="depthwise" if depthwise else "conv",
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        dilation=_pair(module.dilation),
        groups=module.out_channels // module.in_channels if depthwise else module.groups,
        size=_pair(x.shape[2:]),
        out=_pair(y.shape[2:]),
    )
    return Layer(name=name, site=site, inputs=module.in_channels, outputs=module.out_channels)


def _pair(values: Any) -> Pair:
    return int(values[0]), int(values[1])
