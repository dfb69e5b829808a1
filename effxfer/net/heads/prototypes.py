"""Classify by the nearest prototype, the mean feature vector of a class.

Snell et al., 2017, https://arxiv.org/abs/1703.05175.

Shape legend: B images, N images with labels, D features, C classes.
"""

import torch
from torch import Tensor, nn

from effxfer.net.heads.spec import Distance

TINY = 1e-12
# As the learned scale of Gidaris and Komodakis (1804.09458) starts; here nothing is trained that could change it.
SHARPNESS = 10.0


class Prototypes(nn.Module):
    """Logits by the distance of features to prototypes, which are the rows of `out.weight`.

    Args:
        distance: `euclidean` or `cosine`, see `prototype_logits`.
        features: D.
        classes: C.
    """

    def __init__(self, distance: Distance, features: int, classes: int) -> None:
        super().__init__()
        self.distance: Distance = distance
        self.out = nn.Linear(features, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features `(B, D)` to logits `(B, C)`."""
        products = self.out(x)
        if self.distance == "euclidean":
            return _euclidean(products, self.out.weight)
        return _cosine(products, x, self.out.weight)


def prototype_logits(x: Tensor, prototypes: Tensor, distance: Distance = "euclidean") -> Tensor:
    """Compute logits `(B, C)` of features `(B, D)` for prototypes `(C, D)`.

    Args:
        x: Features.
        prototypes: One for each class.
        distance: `euclidean`: minus the squared distance, but for the square of the feature, which is the same for all
            classes; `cosine`: ten times the cosine of the angle.
    """
    products = x @ prototypes.mT
    return _euclidean(products, prototypes) if distance == "euclidean" else _cosine(products, x, prototypes)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Average features `(N, D)` by label: `(classes, D)`; zeros for a class without any."""
    sums = torch.zeros(classes, features.shape[1], device=features.device).index_add_(0, labels, features)
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return sums / counts[:, None]


def _euclidean(products: Tensor, prototypes: Tensor) -> Tensor:
    # |x - p|^2 without |x|^2: one matrix product, and no difference of large numbers that are equal for all classes.
    return 2 * products - (prototypes * prototypes).sum(1)


def _cosine(products: Tensor, x: Tensor, prototypes: Tensor) -> Tensor:
    lengths = x.norm(dim=1, keepdim=True).clamp_min(TINY) * prototypes.norm(dim=1).clamp_min(TINY)
    logits: Tensor = SHARPNESS * products / lengths
    return logits
