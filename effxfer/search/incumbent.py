"""Whether a head that was found is really better than the one that a network came with."""

import torch
from torch import Tensor

from effxfer.search.head_training import measure

DRAWS = 1000


def better(found: Tensor, present: Tensor, labels: Tensor, *, metric: str, confidence: float, seed: int) -> bool:
    """Compare the answers of two heads to the same examples by a paired bootstrap (Efron & Tibshirani, 1993).

    Features of the training split are those of a body that was trained on it, so that heads that were trained on them
    alone, and picked by their score on `val`, look better than they are.

    Args:
        found: Predicted classes `(M,)` of the head that was found.
        present: Those of the head that the network has.
        labels: True classes `(M,)`.
        metric: As in `measure`.
        confidence: Share of the resampled splits in which `found` must do better, in [0, 1); 0 does not ask.
        seed: Of the resampling.
    """
    if not confidence:
        return True
    generator, wins = torch.Generator().manual_seed(seed), 0
    for _ in range(DRAWS):
        rows = torch.randint(len(labels), (len(labels),), generator=generator)
        wins += measure(found[rows], labels[rows], metric) > measure(present[rows], labels[rows], metric)
    return wins / DRAWS >= confidence
