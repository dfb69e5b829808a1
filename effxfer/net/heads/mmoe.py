"""A head of experts that tasks share by gates of their own (Ma et al., 2018, https://doi.org/10.1145/3219819.3220007).

Shape legend: B batch, D features, E experts, H width of an expert, C columns of all tasks together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.net.heads.multi_head import MultiHead

EXPERTS = ".experts."  # in the names of weights that all tasks share


class Mmoe(MultiHead):
    """Multi-gate mixture of experts: each task reads a mean of the experts' outputs, weighed by a softmax gate.

    With one expert, the null value, it is a hidden layer that all tasks share.

    Attributes:
        experts: Maps of the features to `(B, H)`, E of them, shared by all tasks.
        gates: Of each task: a map of the features to `(B, E)`.
        heads: Of each task: a map of its mean to its columns.
    """

    def __init__(self, experts: Sequence[nn.Module], gates: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__(heads)
        self.experts = nn.ModuleList(experts)
        self.gates = nn.ModuleList(gates)

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map features `(B, D)` to the outputs `(B, c)` of each task."""
        hidden = [F.relu(expert(x)) for expert in self.experts]
        pairs = zip(self.gates, self.heads, strict=True)
        return tuple(head(_mean(hidden, gate(x).softmax(1))) for gate, head in pairs)

    def select(self, numbers: Sequence[int]) -> nn.Module:
        """Return the head of some tasks; also a single one needs the experts."""
        gates = [self.gates[number] for number in numbers]
        return Mmoe([*self.experts], gates, [self.heads[number] for number in numbers])


def build_mmoe(experts: int, width: int, features: int, widths: Sequence[int]) -> Mmoe:
    """Build an untrained head.

    Args:
        experts: E, at least 1.
        width: H, at least 1.
        features: D.
        widths: Columns of each task.
    """
    return Mmoe(
        [nn.Linear(features, width) for _ in range(experts)],
        [nn.Linear(features, experts) for _ in widths],
        [_Tower(width, count) for count in widths],
    )


class _Tower(nn.Module):
    """The last layer of a task."""

    def __init__(self, width: int, columns: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, columns)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, H)` to `(B, c)`."""
        outputs: Tensor = self.out(x)
        return outputs


def _mean(hidden: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the weighted mean of the experts' outputs `(B, H)`, with weights `(B, E)`."""
    return torch.stack([weights[:, place : place + 1] * each for place, each in enumerate(hidden)]).sum(0)
