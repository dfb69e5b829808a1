"""The channels-last memory format, which is faster, with a workaround for a memory error of oneDNN.

oneDNN's weight gradient of a strided 1x1 convolution with channels last and fewer input channels than a vector holds
corrupts the heap, hangs or is wrong (https://github.com/uxlfoundation/oneDNN/issues/6035, open in November 2026; seen
here with torch 2.14 on AVX2). Shortcuts of pruned residual networks are such convolutions. Taking every n-th pixel
first, and then a convolution without stride, gives the same result and is safe.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

WIDEST_VECTOR = 16  # float32 numbers in a vector of AVX-512; AVX2 has 8


@contextmanager
def channels_last(module: nn.Module) -> Iterator[None]:
    """Use the channels-last memory format within the block.

    Afterwards the weights have the memory format of a network that was just loaded. Sums in another order have other
    last bits, and a measurement must give the same result in the next process.
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
    """Subsample the inputs of the convolutions that oneDNN gets wrong, within the block."""
    with ExitStack() as undo:
        for conv in at_risk(module):
            undo.callback(conv.register_forward_pre_hook(partial(_thin, stride=conv.stride)).remove)
            undo.callback(setattr, conv, "stride", conv.stride)
            conv.stride = (1, 1)
        yield


def at_risk(module: nn.Module) -> list[nn.Conv2d]:
    """Return the strided 1x1 convolutions on the CPU whose input channels do not fill a vector."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.weight.device.type == "cpu"]
    strided = [m for m in convs if m.kernel_size == (1, 1) and m.stride != (1, 1) and m.padding in {(0, 0), "valid"}]
    return [m for m in strided if m.in_channels // m.groups < WIDEST_VECTOR]


def _copy_contiguous(tensor: Tensor) -> Tensor:
    """Copy, because `contiguous()` keeps the strides of a 1x1 kernel, which are ambiguous."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _thin(_module: nn.Module, inputs: tuple[Tensor, ...], *, stride: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(x[..., :: stride[0], :: stride[1]].contiguous(memory_format=torch.channels_last) for x in inputs)
