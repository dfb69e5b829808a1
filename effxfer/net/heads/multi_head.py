"""A head made of heads: one for each task, on the same features.

Shape legend: B batch, D features, C columns of all tasks together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.net.heads.build import build_head
from effxfer.net.heads.spec import HeadSpec


class MultiHead(nn.Module):
    """Heads side by side.

    Attributes:
        heads: The head of each task, in the order of the tasks; by number, because names of tasks are free.
    """

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map features `(B, D)` to the outputs `(B, c)` of each task."""
        return tuple(head(x) for head in self.heads)

    def select(self, numbers: Sequence[int]) -> nn.Module:
        """Return the head of some tasks, by their numbers; that of a single one is its plain head."""
        heads = [self.heads[number] for number in numbers]
        return heads[0] if len(heads) == 1 else MultiHead(heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map features `(B, D)` to the outputs of all tasks side by side, `(B, C)`."""
        return torch.cat(self.answers(x), 1)


class SplitHead(MultiHead):
    """Heads that read features of their own: an equal part of them for each task.

    Attributes:
        places: Which of the parts each head reads.
        parts: How many there are.
    """

    def __init__(self, heads: Sequence[nn.Module], places: Sequence[int] = (), parts: int = 0) -> None:
        super().__init__(heads)
        self.places, self.parts = tuple(places or range(len(heads))), parts or len(heads)

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map the features of all parts side by side to the outputs `(B, c)` of each task."""
        each = x.chunk(self.parts, 1)
        return tuple(head(each[place]) for head, place in zip(self.heads, self.places, strict=True))

    def select(self, numbers: Sequence[int]) -> nn.Module:
        """Return the head of some tasks; also a single one has to know its part."""
        places = [self.places[number] for number in numbers]
        return SplitHead([self.heads[number] for number in numbers], places, self.parts)


def build_multi_head(spec: HeadSpec, features: int | Sequence[int], widths: Sequence[int]) -> MultiHead:
    """Build an untrained head of this kind for each task.

    Args:
        spec: Specification of each task's head.
        features: Channels of each layer that feeds the heads, or their sum.
        widths: Columns of each task.

    Raises:
        ModelFileError: If heads of this kind serve a single task only.
    """
    if spec.pools or spec.kind not in ("linear", "mlp", "cosine"):
        kind = f"that pools by {spec.pool}" if spec.pools else f"of kind {spec.kind}"
        raise ModelFileError(f"a head {kind} serves one task", "give a linear, mlp or cosine head without a pool")
    return MultiHead([build_head(spec, features, width) for width in widths])
