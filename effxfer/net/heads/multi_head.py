"""A head made of heads: one for each task, on the same features.

Shape legend: B batch, n tokens of a text, D features, C columns of all tasks together.
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


class TextAndWordHeads(MultiHead):
    """Heads of whole texts and of their words, on the features of a text in front of those of its tokens.

    Attributes:
        of_words: Whether each task answers for each token.
    """

    def __init__(self, heads: Sequence[nn.Module], of_words: Sequence[bool]) -> None:
        super().__init__(heads)
        self.of_words = tuple(of_words)

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map features `(B, 1 + n, D)` to the outputs of each task: `(B, c)`, or `(B, n, c)` of words."""
        text, tokens = x[:, 0], x[:, 1:]
        pairs = zip(self.heads, self.of_words, strict=True)
        return tuple(head(tokens if of_words else text) for head, of_words in pairs)

    def select(self, numbers: Sequence[int]) -> nn.Module:
        """Return the head of some tasks; where none tags words, it reads features `(B, D)`."""
        of_words = [self.of_words[number] for number in numbers]
        if len(numbers) == 1 or not any(of_words):
            return super().select(numbers)
        return TextAndWordHeads([self.heads[number] for number in numbers], of_words)

    def forward(self, x: Tensor) -> Tensor:
        """Map features `(B, 1 + n, D)` to outputs of all tasks side by side, `(B, n, C)`: a text's at each token."""
        each = [answer if answer.dim() == 3 else answer[:, None] for answer in self.answers(x)]
        return torch.cat([answer.expand(-1, x.shape[1] - 1, -1) for answer in each], 2)


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


def build_multi_head(
    spec: HeadSpec, features: int | Sequence[int], widths: Sequence[int], of_words: Sequence[bool] = ()
) -> MultiHead:
    """Build an untrained head of this kind for each task.

    Args:
        spec: Specification of each task's head.
        features: Channels of each layer that feeds the heads, or their sum.
        widths: Columns of each task.
        of_words: Whether each task answers for each token of a text; empty if none does.

    Raises:
        ModelFileError: If heads of this kind serve a single task only.
    """
    if spec.pools or spec.kind not in ("linear", "mlp", "cosine"):
        kind = f"that pools by {spec.pool}" if spec.pools else f"of kind {spec.kind}"
        raise ModelFileError(f"a head {kind} serves one task", "give a linear, mlp or cosine head without a pool")
    heads = [build_head(spec, features, width) for width in widths]
    return TextAndWordHeads(heads, of_words) if any(of_words) else MultiHead(heads)
