"""Optimizers and dropout that are cheap for heads, where they would cost more than the matrix products.

Measured on one core of a 2-core x86-64 machine, 256 x 1280 numbers: `torch.dropout` takes 4.7 ms, this 0.8 ms.
`head_training` has the figures of whole searches.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

MOMENTUM = 0.9  # as in `train`; not searched, since a larger rate does much the same


class Flat(ABC):
    """All parameters of a head as one vector, and their gradients as another; the parameters become views of it.

    Args:
        parameters: Float32 parameters on the CPU.
        weight_decay: Decoupled: each step multiplies weights by `1 - lr * weight_decay`; 0 is none.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, weight_decay: float) -> None:
        owned = list(parameters)
        self.weight_decay, self.steps = weight_decay, 0
        self.values = torch.cat([p.detach().reshape(-1) for p in owned])
        self.grads = torch.zeros_like(self.values)
        sizes = [p.numel() for p in owned]
        for p, value, grad in zip(owned, self.values.split(sizes), self.grads.split(sizes), strict=True):
            p.data, p.grad = value.view_as(p), grad.view_as(p)

    @abstractmethod
    def step(self, lr: float) -> None:
        """Update the parameters from their gradients, and zero the gradients."""


class FlatAdamW(Flat):
    """AdamW (https://arxiv.org/abs/1711.05101) on all parameters at once; equals `torch.optim.AdamW`.

    Args:
        parameters: As of `Flat`.
        weight_decay: As of `Flat`.
        betas: Decay of the running mean and of the running mean square of the gradient.
        eps: Added to the denominator.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        weight_decay: float,
        # torch's defaults, which are those of Kingma & Ba 2015.
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, weight_decay=weight_decay)
        self.betas, self.eps = betas, eps
        self.mean, self.square = torch.zeros_like(self.values), torch.zeros_like(self.values)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update the parameters from their gradients, and zero the gradients."""
        self.steps += 1
        first, second = self.betas
        self.mean.lerp_(self.grads, 1 - first)
        self.square.mul_(second).addcmul_(self.grads, self.grads, value=1 - second)
        unbias = math.sqrt(1 - second**self.steps)
        # Scaling `eps` instead of the squares saves a pass over all numbers.
        denominator = self.square.sqrt().add_(self.eps * unbias)
        self.values.mul_(1 - lr * self.weight_decay)
        self.values.addcdiv_(self.mean, denominator, value=-lr * unbias / (1 - first**self.steps))
        self.grads.zero_()


class FlatSGD(Flat):
    """SGD with Nesterov's momentum of 0.9 on all parameters at once; equals `torch.optim.SGD` without weight decay."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, weight_decay: float) -> None:
        super().__init__(parameters, weight_decay=weight_decay)
        self.momentum = torch.zeros_like(self.values)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update the parameters from their gradients, and zero the gradients."""
        self.steps += 1
        self.momentum.mul_(MOMENTUM).add_(self.grads)
        self.values.mul_(1 - lr * self.weight_decay)
        self.values.sub_(self.grads.add_(self.momentum, alpha=MOMENTUM), alpha=lr)
        self.grads.zero_()


OPTIMIZERS: dict[str, type[Flat]] = {"adamw": FlatAdamW, "sgd": FlatSGD}


class ByteDropout(nn.Module):
    """Dropout whose share is a multiple of 1/256, drawn one byte a number.

    Args:
        share: Wanted share, 0 up to 1, exclusive; rounded to 1/256.
        generator: Source of random bytes.
    """

    def __init__(self, share: float, generator: np.random.Generator) -> None:
        super().__init__()
        self.dropped = round(share * 256)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """In training, zero a share of the numbers and scale up the rest; otherwise return `x` unchanged."""
        if not self.training or self.dropped == 0:
            return x
        # A byte for each number: steps of 1/256 are fine enough for a share.
        drawn = np.frombuffer(self.generator.bytes(x.numel()), dtype=np.uint8).reshape(x.shape)
        scale = np.float32(256 / (256 - self.dropped))
        return x * torch.from_numpy(np.multiply(drawn >= self.dropped, scale, dtype=np.float32))


def replace_dropout(module: nn.Module, generator: np.random.Generator) -> None:
    """Replace every `nn.Dropout` in `module` by `ByteDropout`, in place."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Dropout):
            setattr(module, name, ByteDropout(child.p, generator))
        else:
            replace_dropout(child, generator)
