"""Channels last in memory, which is faster, except where oneDNN would write past its buffers.

oneDNN's weight gradient of a strided 1x1 convolution with channels last and fewer input channels than a vector holds
corrupts the heap, hangs or is wrong (https://github.com/uxlfoundation/oneDNN/issues/6035, open in November 2026; seen
here with torch 2.14 on AVX2). Shortcuts of residual networks are such convolutions once they are pruned.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

WIDEST_VECTOR = 16


@contextmanager
def channels_last(module: nn.Module) -> Iterator[None]:
    """Lay weights out with channels last for the length of the block, where that is safe.

    Afterwards they lie as a network that was just loaded has them: sums in another order have other last bits, and
    what is measured in one process must be found again in the next.
    """
    module.to(memory_format=torch.channels_last)
    try:
        with safe_gradients(module):
            yield
    finally:
        for parameter in module.parameters():
            parameter.data = _plain(parameter.data)


@contextmanager
def safe_gradients(module: nn.Module) -> Iterator[None]:
    """Let the convolutions that oneDNN gets wrong work with channels first for the length of the block."""
    with ExitStack() as hooks:
        for conv in at_risk(module):
            conv.weight.data = _plain(conv.weight.data)
            hooks.callback(conv.register_forward_pre_hook(_channels_first).remove)
        yield


def at_risk(module: nn.Module) -> list[nn.Conv2d]:
    """The strided 1x1 convolutions on the CPU whose input channels do not fill a vector."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.weight.device.type == "cpu"]
    strided = [m for m in convs if m.kernel_size == (1, 1) and m.stride != (1, 1)]
    return [m for m in strided if m.in_channels // m.groups < WIDEST_VECTOR]


def _plain(tensor: Tensor) -> Tensor:
    """Copy, because `contiguous()` keeps the strides of a 1x1 kernel, which are ambiguous."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _channels_first(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)
