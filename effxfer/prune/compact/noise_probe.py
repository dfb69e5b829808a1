"""Find the channels of a network that carry nothing, by sending noise through it.

Every layer's output is replaced by noise of either sign and three scales, except where it does not vary: so no
activation or gate can hide what is alive, and whatever lies between two layers (norms, activations, concatenation,
shuffles, attention) is executed as it is instead of being understood. A channel that is the same number for all
inputs and positions is constant; one whose gradient is exactly zero is not read.

Shape suffixes: I input and O output channels of a layer.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.prune.graph.groups import channels_in
from effxfer.prune.graph.trace import WEIGHING

# Chosen: within the linear part of sigmoid and tanh, beyond ReLU6 and hard swish, and
# beyond what a norm may scale down.
SCALES = (0.3, 10.0, 300.0)
# Double precision keeps 1e-16, of which sums over thousands of numbers lose a few digits.
RELATIVE_TOLERANCE = 1e-9
# A zero after rounding; constants that matter are larger by far.
NOTHING = 1e-12


@dataclass(kw_only=True, eq=False)
class ChannelActivity:
    """Activity of the channels of one convolution or linear layer.

    Attributes:
        constant: Inputs that are the same number everywhere `(I,)`.
        value: That number, in double precision; 0 for other inputs `(I,)`.
        read: Inputs that the network's output depends on through this layer `(I,)`.
        still: Outputs that are the same number everywhere `(O,)`.
        norm: The BatchNorm that takes the layer's output; empty if another layer does.
    """

    constant: Tensor
    value: Tensor
    read: Tensor
    still: Tensor
    norm: str = ""

    @property
    def zero(self) -> Tensor:
        """Inputs that are zero everywhere `(I,)`."""
        return self.constant & (self.value.abs() <= NOTHING)


def probe(net: nn.Module, example: Tensor, seed: int = 0) -> dict[str, ChannelActivity]:
    """Send noise through a network and record channel activity.

    Args:
        net: Network in any mode and on any device; a copy in double precision runs on the CPU.
        example: One input `(1, ...)`, for its size; of integers, these ids.
        seed: Random seed of the noise.

    Returns:
        By name, each convolution and linear layer that took part.
    """
    # In double precision: in float32, a small constant and rounding look alike.
    twin = deepcopy(net).cpu().double().eval().requires_grad_(False)
    watch = _Watch(twin, torch.Generator().manual_seed(seed))
    inputs = watch.noise((2 * len(SCALES), *example.shape[1:])).requires_grad_(True)
    if not example.is_floating_point():  # ids: noise takes the place of their embeddings
        inputs = example[:1].cpu().expand(2 * len(SCALES), *example.shape[1:])
    with torch.enable_grad():
        output = twin(inputs)
        (output * watch.noise(tuple(output.shape))).sum().backward()
    return watch.flows


class _Watch:
    """Hooks on every weighing layer of a network that is thrown away afterwards."""

    def __init__(self, twin: nn.Module, rng: torch.Generator) -> None:
        self.flows, self._rng, self._outputs = dict[str, ChannelActivity](), rng, dict[int, tuple[str, Tensor]]()
        for name, module in twin.named_modules():
            if isinstance(module, WEIGHING):
                module.register_forward_pre_hook(self._input_hook(name))
                module.register_forward_hook(self._output_hook(name))
            elif isinstance(module, nn.Embedding):
                module.register_forward_hook(self._replace_embeddings)
            elif isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.register_forward_pre_hook(self._norm(name))

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        """Draw noise whose second half is the negative of the first, at a scale that depends on the row."""
        rows = (shape[0] + 1) // 2
        scale = torch.tensor(SCALES, dtype=torch.double).repeat(rows // len(SCALES) + 1)[:rows]
        half = torch.randn(rows, *shape[1:], generator=self._rng, dtype=torch.double)
        # Pairs of opposite sign: what is even or odd in its input shows either way.
        half = half * scale.view(-1, *[1] * (len(shape) - 1))
        return torch.cat([half, -half])[: shape[0]] if shape[0] > 1 else half

    def _input_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # A view of its own: a tensor that several layers read would mix their gradients.
            view = inputs[0].view_as(inputs[0])
            constant, value = _constant_channels(view, module)
            flow = self.flows.get(name)
            if flow is None:
                silent = torch.zeros_like(constant)
                still = torch.ones(channels_in(module, reading=False), dtype=torch.bool)
                flow = self.flows[name] = ChannelActivity(constant=constant, value=value, read=silent, still=still)
            flow.constant = flow.constant & constant & ((flow.value - value).abs() <= NOTHING)
            flow.value = torch.where(flow.constant, value, 0.0)
            if view.requires_grad:
                view.register_hook(lambda grad: self._note_gradient(flow, grad, module))
            else:
                flow.read = torch.ones_like(constant)
            return (view, *inputs[1:])

        return hook

    def _note_gradient(self, flow: ChannelActivity, grad: Tensor, module: nn.Module) -> None:
        flow.read = flow.read | (rows_of(grad, module) != 0).any(0)

    def _output_hook(self, name: str) -> Any:
        def hook(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            still, _ = _constant_channels(output, module)
            self.flows[name].still = self.flows[name].still & still
            shape = [1, -1] + [1] * (output.dim() - 2) if _spatial(module) else [-1]
            # The noise as value, the output's own path for the gradient.
            noisy = self.noise(tuple(output.shape)) + output - output.detach()
            mixed = torch.where(still.view(shape), output, noisy)
            self._outputs[id(mixed)] = name, mixed
            return mixed

        return hook

    def _replace_embeddings(self, module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        """Replace embeddings by noise, except the columns that are the same number for all ids."""
        still, _ = _constant_channels(module.get_parameter("weight"), module)
        return torch.where(still, output, self.noise(tuple(output.shape))).requires_grad_(True)

    def _norm(self, norm: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            name, output = self._outputs.get(id(inputs[0]), ("", None))
            if output is inputs[0]:
                self.flows[name].norm = norm

        return hook


def _spatial(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd)


def rows_of(tensor: Tensor, module: nn.Module) -> Tensor:
    """Reshape a layer's input or output to `(positions, channels)`."""
    last = tensor.movedim(1, -1) if _spatial(module) else tensor
    return last.reshape(-1, last.shape[-1])


def _constant_channels(tensor: Tensor, module: nn.Module) -> tuple[Tensor, Tensor]:
    """Mark the channels that are the same number everywhere, and return that number (0 elsewhere)."""
    rows = rows_of(tensor.detach(), module)
    low, high = rows.amin(0), rows.amax(0)
    constant = (high - low) <= RELATIVE_TOLERANCE * torch.maximum(low.abs(), high.abs())
    return constant, torch.where(constant, rows.mean(0), 0.0)
