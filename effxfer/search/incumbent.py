"""Whether the best head of a search is really better than the one that a network came with."""

import torch
from torch import Tensor

from effxfer.search.head_training import measure

# The share of wins is then known to 1.4 points (95 %) at a confidence of 0.95.
DRAWS = 1000


def is_better(candidate: Tensor, present: Tensor, labels: Tensor, *, metric: str, confidence: float, seed: int) -> bool:
    """Compare the answers of two heads to the same examples by a paired bootstrap (Efron & Tibshirani, 1993).

    The body was trained on the training split. So a head that was trained on features of that split and selected by
    its score on `val` looks better than it is.

    Args:
        candidate: Predicted classes `(M,)` of the best head of the search.
        present: Those of the head that the network has.
        labels: True classes `(M,)`.
        metric: One that `measure` knows.
        confidence: Share of the resampled splits in which `candidate` must be better, in [0, 1); 0 always returns true.
        seed: Random seed of the resampling.
    """
    if not confidence:
        return True
    generator, wins = torch.Generator().manual_seed(seed), 0
    for _ in range(DRAWS):
        rows = torch.randint(len(labels), (len(labels),), generator=generator)
        # Strictly better: equal answers are no reason for another head.
        wins += measure(candidate[rows], labels[rows], metric) > measure(present[rows], labels[rows], metric)
    return wins / DRAWS >= confidence
