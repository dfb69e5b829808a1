"""How unlike predictions are to what they predict."""

from torch import Tensor
from torch.nn import functional as F


def negative_cosine(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return minus the mean cosine of rows `(B, P)`, in [-1, 1]; BYOL's squared distance is 2 + 2 times it."""
    return -F.cosine_similarity(predicted, targets, dim=1).mean()
