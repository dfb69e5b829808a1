"""Pool the tokens of a text to one vector. Padding takes no part: an answer does not depend on the batch it is in.

Shape legend: B batch, n tokens, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Its exponential is exactly 0 beside any real token, also in half precision, where the smallest float32 would become
# minus infinity. That would make NaN of a text of padding alone, such as an example of zeros. Static int8 of the sum of
# scores and bias cannot work: without padding among the calibration texts it is cut off, with it all scores round to
# one number. `u8s8-heavy`, which leaves sums in float32, is independent of the batch.
HIDDEN = -3e4


def mean_of_tokens(tokens: Tensor, real: Tensor) -> Tensor:
    """Average the tokens of each text (Sentence-BERT: Reimers & Gurevych, 2019, https://arxiv.org/abs/1908.10084).

    Args:
        tokens: `(B, n, D)`.
        real: Which of them are no padding, bool `(B, n)`. A text of padding alone gives zeros.

    Returns:
        `(B, D)`.
    """
    weights = real.to(tokens.dtype).unsqueeze(2)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)


def first_token(tokens: Tensor, _real: Tensor) -> Tensor:
    """Take the first token of each text, BERT's `[CLS]`; see `mean_of_tokens` for arguments."""
    return tokens[:, 0]


def last_token(tokens: Tensor, real: Tensor) -> Tensor:
    """Take the last token of each text that is no padding, CLIP's end of text; see `mean_of_tokens` for arguments."""
    last = (real.long().sum(1) - 1).clamp(min=0)
    place = last[:, None, None].expand(-1, 1, tokens.shape[2])
    return tokens.gather(1, place)[:, 0]


TOKEN_POOLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "first": first_token,
    "last": last_token,
    "mean": mean_of_tokens,
}


def padding_bias(real: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what attention adds to its scores, so that no token attends to padding.

    Args:
        real: Which tokens are no padding, bool `(B, n)`.
        dtype: Of the scores.

    Returns:
        `(B, 1, 1, n)`: 0, or `HIDDEN` at padding.
    """
    return (~real).to(dtype)[:, None, None] * HIDDEN


def causal_bias(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what attention adds to its scores, so that no token attends to those behind it.

    Args:
        length: n.
        dtype: Of the scores.
        device: Of the scores.

    Returns:
        `(1, 1, n, n)`, queries by keys: 0, or `HIDDEN` above the diagonal.
    """
    places = torch.arange(length, device=device)
    return (places[None] > places[:, None]).to(dtype)[None, None] * HIDDEN
