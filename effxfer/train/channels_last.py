"""Channels last in memory, which is faster, except where oneDNN would write past its buffers.

oneDNN's weight gradient of a strided 1x1 convolution with channels last and fewer input channels than a vector holds
corrupts the heap, hangs or is wrong (https://github.com/uxlfoundation/oneDNN/issues/6035, open in November 2026; seen
here with torch 2.14 on AVX2). Shortcuts of residual networks are such convolutions once they are pruned. They are the
same as taking every n-th pixel and then a convolution without stride, which is sound.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

WIDEST_VECTOR = 16  # float32 numbers in a vector of AVX-512; AVX2 has 8


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
            parameter.data = _copy_contiguous(parameter.data)


@contextmanager
def safe_gradients(module: nn.Module) -> Iterator[None]:
    """Let the convolutions that oneDNN gets wrong take every n-th pixel themselves for the length of the block."""
    with ExitStack() as undo:
        for conv in at_risk(module):
            undo.callback(conv.register_forward_pre_hook(partial(_thin, stride=conv.stride)).remove)
            undo.callback(setattr, conv, "stride", conv.stride)
            conv.stride = (1, 1)
        yield


def at_risk(module: nn.Module) -> list[nn.Conv2d]:
    """The strided 1x1 convolutions on the CPU whose input channels do not fill a vector."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.weight.device.type == "cpu"]
    strided = [m for m in convs if m.kernel_size == (1, 1) and m.stride != (1, 1) and m.padding in {(0, 0), "valid"}]
    return [m for m in strided if m.in_channels // m.groups < WIDEST_VECTOR]


def _copy_contiguous(tensor: Tensor) -> Tensor:
    """Copy, because `contiguous()` keeps the strides of a 1x1 kernel, which are ambiguous."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _thin(_module: nn.Module, inputs: tuple[Tensor, ...], *, stride: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(x[..., :: stride[0], :: stride[1]].contiguous(memory_format=torch.channels_last) for x in inputs)
