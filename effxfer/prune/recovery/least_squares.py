"""Least squares for a convolution or linear layer: inputs, target outputs, and the change of its weights.

Shape legend: B images, G groups of a convolution, R rows (a position of an image each), K inputs that one output weighs
(channels times kernel, and a one for the bias), O outputs per group.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# 256 images give 16,384 rows, several for each of the 4,608 inputs of a 3 x 3 convolution on 512 channels.
SIDE = 8
# At once in memory, 16 MB in float32.
NUMBERS = 4_000_000
# Rounding is a thousand times smaller; standardised weights are off by their scale.
SLACK = 1e-3
TINY = 1e-12  # against dividing by nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalEquations:
    """Normal equations for the change of a layer's weights, in float64.

    Attributes:
        gram: Inputs by inputs, `(G, K, K)`.
        moment: Inputs by what is missing in the outputs, `(G, K, O)`.
        missing: Squared norm of what is missing.
        power: Squared norm of what should come out.
    """

    gram: Tensor
    moment: Tensor
    missing: float
    power: float

    def __add__(self, addend: "NormalEquations") -> "NormalEquations":
        return NormalEquations(
            gram=self.gram + addend.gram, moment=self.moment + addend.moment, missing=self.missing + addend.missing,
            power=self.power + addend.power,
        )  # fmt: skip

    def residual_after(self, change: Tensor) -> float:
        """Return the squared norm of the residual after a change `(G, K, O)` of the weights."""
        return self.missing - float((change * (2 * self.moment - self.gram @ change)).sum())


def change(of: NormalEquations, ridge: float, allowed: Tensor | None = None) -> Tensor:
    """Solve for the change of the weights, `(G, K, O)`.

    Args:
        of: The normal equations.
        ridge: Weight of the change's squared norm, as a share of the mean power of an input; above 0.
        allowed: Mask of the weights that may change, bool `(G, K, O)`; None is all.
    """
    size = of.gram.shape[-1]
    # A share of the inputs' power, so that one list of ridges serves all layers.
    power = of.gram.diagonal(dim1=1, dim2=2).mean(1)
    gram = of.gram + (ridge * power + TINY)[:, None, None] * torch.eye(size, dtype=of.gram.dtype, device=power.device)
    if allowed is None:
        return torch.cholesky_solve(of.moment, torch.linalg.cholesky_ex(gram)[0])
    # A ticket leaves each output other inputs: a system for each.
    solution = torch.zeros_like(of.moment)
    for group, output in torch.cartesian_prod(torch.arange(len(gram)), torch.arange(solution.shape[2])).tolist():
        rows = allowed[group, :, output].nonzero().squeeze(1)
        factor = torch.linalg.cholesky_ex(gram[group][rows][:, rows])[0]
        solution[group, rows, output] = torch.cholesky_solve(of.moment[group, rows, output, None], factor).squeeze(1)
    return solution


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Sampled positions of a layer's outputs: every `step`-th row and column from `first` on.

    Attributes:
        step: 1 is all.
        first: From 0 on, below `step`.
        size: Height and width of the outputs; `(n, 1)` for a linear layer on n tokens.
    """

    step: int
    first: int
    size: tuple[int, int]

    @classmethod
    def of(cls, layer: Any, outputs: Tensor, number: int) -> "Grid":
        """Choose about `SIDE` rows and columns of a layer's outputs, moved by one from batch `number` to the next."""
        if isinstance(layer, nn.Linear):
            tokens = outputs[0].numel() // outputs.shape[-1]
            step, size = ceil(tokens / SIDE**2), (tokens, 1)
        else:
            step, size = ceil(max(outputs.shape[2:]) / SIDE), (outputs.shape[2], outputs.shape[3])
        return cls(step=step, first=number % step, size=size)

    def outputs(self, layer: Any, y: Tensor) -> Tensor:
        """Return the sampled part of outputs: `(B, O, h, w)`, or `(B, n, O)`."""
        if isinstance(layer, nn.Linear):
            return y.reshape(len(y), -1, y.shape[-1])[:, self.first :: self.step]
        return y[..., self.first :: self.step, self.first :: self.step]

    def inputs(self, layer: Any, x: Tensor) -> Tensor:
        """Return a layer's inputs at the sampled positions, `(G, R, K)`."""
        if isinstance(layer, nn.Linear):
            return self.outputs(layer, x).reshape(1, -1, x.shape[-1])
        down, right = layer.stride
        x = F.pad(x, self.borders(layer, x))[..., self.first * down :, self.first * right :]
        stride = (self.step * down, self.step * right)
        return rows_by_group(layer, F.unfold(x, layer.kernel_size, dilation=layer.dilation, stride=stride))

    def borders(self, layer: Any, x: Tensor) -> tuple[int, ...]:
        """Return the zero padding left, right, above and below; inferred from the output size if not stated.

        Those that TensorFlow's layers see, with one more at the end where the number is odd.
        """
        amounts: list[int] = []
        for axis in (1, 0):
            inside, stride, padding = x.shape[2 + axis], layer.stride[axis], layer.padding
            reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            before = after = 0 if isinstance(padding, str) else padding[axis]
            if (inside + before + after - reach - 1) // stride + 1 != self.size[axis]:
                missing = max(0, (self.size[axis] - 1) * stride + reach + 1 - inside)
                # timm's "same" layers state no padding and add it in their pass.
                before, after = missing // 2, missing - missing // 2
            amounts += [before, after]
        return tuple(amounts)


def rows_of(layer: Any, grid: Grid, inputs: Tensor, targets: Tensor, current: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield chunks of a layer's inputs `(G, R, K)` and its target and current outputs `(G, R, O)`."""
    if not len(inputs):
        return
    at_once = int(max(1, NUMBERS // (SIDE**2 * layer.weight[0].numel() * getattr(layer, "groups", 1))))
    for x, *outputs in zip(*(t.split(at_once) for t in (inputs, targets, current)), strict=True):
        rows = grid.inputs(layer, x)
        if layer.bias is not None:
            rows = torch.cat([rows, torch.ones_like(rows[..., :1])], 2)
        yield rows, *(rows_by_group(layer, y) for y in outputs)


def normal_equations(rows: Tensor, targets: Tensor, outputs: Tensor) -> NormalEquations:
    """Build the normal equations from the rows of `rows_of`."""
    missing = targets - outputs
    return NormalEquations(
        # Products in float32, sums in float64: that is where digits are lost.
        gram=(rows.mT @ rows).double(), moment=(rows.mT @ missing).double(),
        missing=float(missing.double().square().sum()), power=float(targets.double().square().sum()),
    )  # fmt: skip


@torch.no_grad()
def is_linear(layer: Any, rows: Tensor, _targets: Tensor, outputs: Tensor) -> bool:
    """Whether a layer's outputs are its weights times its inputs: false if it standardises its weights."""
    if rows.shape[1] != outputs.shape[1]:
        return False
    weight = group_weight(layer.weight, layer)
    if layer.bias is not None:
        weight = torch.cat([weight, layer.bias.reshape(len(weight), 1, -1)], 1)
    return float((rows @ weight - outputs).abs().max()) <= SLACK * max(float(outputs.abs().max()), TINY)


def group_weight(weight: Tensor, layer: Any) -> Tensor:
    """Reshape a weight to `(G, K, O)`, without the bias."""
    groups = getattr(layer, "groups", 1)
    laid: Tensor = weight.reshape(groups, weight.shape[0] // groups, -1)
    return laid.transpose(1, 2)


def rows_by_group(layer: Any, y: Tensor) -> Tensor:
    """Reshape outputs or columns to `(G, R, ...)`."""
    if isinstance(layer, nn.Linear):
        return y.reshape(1, -1, y.shape[-1])
    grouped: Tensor = y.flatten(2).unflatten(1, (layer.groups, -1))
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)
