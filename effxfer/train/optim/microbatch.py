"""Split a batch that does not fit into memory; the gradients of its parts add up to those of the whole batch.

BatchNorm normalises each part separately, so very small parts change the result.
"""

from typing import Any

import torch
from torch import Tensor

MOST_PARTS = 16  # four halvings; a batch that does not fit then is not the cause


def split(batch: Any, count: int) -> list[tuple[float, Any]]:
    """Cut a batch into parts along the first dimension.

    Args:
        batch: A tensor `(B, ...)`, or a tuple, list or dict of batches.
        count: Maximum number of parts; there are never more parts than examples.

    Returns:
        Each part with its share of the examples; all shares add up to 1.
    """
    if count == 1:
        return [(1.0, batch)]
    sizes = [len(piece) for piece in torch.arange(_length(batch)).chunk(count)]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [(size / ends[-1], _slice(batch, end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def _length(batch: Any) -> int:
    if isinstance(batch, Tensor):
        return len(batch)
    return min(_length(inner) for inner in (batch.values() if isinstance(batch, dict) else batch))


def _slice(batch: Any, start: int, end: int) -> Any:
    if isinstance(batch, Tensor):
        return batch[start:end]
    if isinstance(batch, dict):
        return {name: _slice(inner, start, end) for name, inner in batch.items()}
    return type(batch)(_slice(inner, start, end) for inner in batch)
