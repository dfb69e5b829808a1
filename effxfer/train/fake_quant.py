"""Fake quantization: train a network with weights and activations that are rounded to int8.

Jacob et al., 2018, https://arxiv.org/abs/1712.05877, section 3: weights and inputs are rounded in the forward pass, and
gradients pass through the rounding unchanged. Weights have one scale per output channel. Export folds BatchNorm into
them, which multiplies a channel's weights and its scale by the same factor, so the int8 codes stay equal. The modules
of torch.ao for this are deprecated, and those of torchao support linear layers only; therefore these are short hooks,
which leave a plain network behind.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.Linear)
# Keeps a scale of a dead channel from 0, which would give NaN; far below any scale of living ones.
LEAST = 1e-8


class FakeRange(nn.Module):
    """Rounds a tensor to 8 bits within a range that follows the inputs during training.

    Attributes:
        low: Moving average of the smallest value, at most 0.
        high: Moving average of the largest value, at least 0.
        seen: Whether a batch has set the range.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """Round `x` to 256 levels within the range; unchanged before the first batch."""
        if self.training:
            self.follow(x.detach())
        if not self.seen:
            return x
        # 255 steps between 256 codes.
        scale = torch.clamp((self.high - self.low) / 255, min=LEAST)
        zero = torch.round(-self.low / scale).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, 255).to(x.dtype)

    @torch.no_grad()
    def follow(self, x: Tensor) -> None:
        """Move the range towards the range of a batch; the first batch sets it."""
        share = torch.where(self.seen, 1 - self.momentum, 1.0)
        low, high = torch.aminmax(x)
        # The range holds 0, so that padding and what ReLU removes are exact.
        self.low.lerp_(low.float().clamp(max=0), share)
        self.high.lerp_(high.float().clamp(min=0), share)
        self.seen.fill_(True)


def fake_weight(weight: Tensor, bits: int = 8) -> Tensor:
    """Round weights `(O, ...)` to symmetric codes with one scale per output channel; zeros stay zeros."""
    largest = weight.detach().float().abs().flatten(1).amax(1).view(-1, *[1] * (weight.dim() - 1))
    # 127 of 8 bits; below, ONNX Runtime's reduced range, which is -64 to 64 for 7 bits.
    scale = torch.clamp(largest / min(2 ** (bits - 1), 127), min=LEAST)
    return round_straight_through(weight.float(), scale).to(weight.dtype)


def round_straight_through(x: Tensor, scale: Tensor) -> Tensor:
    """Round to multiples of `scale`; the gradient passes through unchanged."""
    return x + (torch.round(x / scale) * scale - x).detach()


@contextmanager
def fake_quantize(net: nn.Module, *, bits: int = 8, momentum: float = 0.99, skip: int = 1) -> Iterator[nn.Module]:
    """Simulate int8 weights and inputs of convolutions and linear layers within the block.

    Args:
        net: Network, changed in place. Afterwards only its trained weights differ. Within the block, `state_dict` also
            contains the ranges, and parameters keep their names.
        bits: Bits of a weight, 2 to 8; CPUs without VNNI multiply 7-bit weights without saturation.
        momentum: Momentum of the moving averages of the ranges, in [0, 1).
        skip: Number of leading layers that stay in float32.
    """
    # In their order of definition; the first sees pixels, and int8 recipes leave it in float32, too.
    layers = [m for m in net.modules() if isinstance(m, LAYERS)][skip:]
    with ExitStack() as undo:
        for layer in layers:
            layer.add_module("fake_range", FakeRange(momentum).to(layer.weight.device))
            undo.callback(delattr, layer, "fake_range")
            undo.callback(layer.register_forward_pre_hook(_quantize_hook(bits)).remove)
            # Called even if the pass raises: a hidden weight must not stay behind.
            undo.callback(layer.register_forward_hook(_restore_hook, always_call=True).remove)
        yield net


def _quantize_hook(bits: int) -> Any:
    """Return a hook that replaces the layer's weight by its rounded copy, and rounds its input."""

    def hook(layer: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # An entry of the instance comes before `nn.Module.__getattr__`, so the parameter stays registered.
        vars(layer)["weight"] = fake_weight(layer.weight, bits)
        return (layer.fake_range(inputs[0]), *inputs[1:])

    return hook


def _restore_hook(layer: nn.Module, _inputs: Any, _output: Any) -> None:
    vars(layer).pop("weight", None)
