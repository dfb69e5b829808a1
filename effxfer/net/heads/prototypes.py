"""Classify by the nearest prototype, the mean feature vector of a class.

Snell et al., 2017, https://arxiv.org/abs/1703.05175. Features may be centred and normalised first: Wang et al., 2019,
https://arxiv.org/abs/1911.04623. The comparison may be learned: Sung et al., 2018, https://arxiv.org/abs/1711.06025.

Shape legend: B images, N images with labels, D features, C classes, H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.net.heads.spec import Distance, HeadSpec
from effxfer.net.heads.standardize import TINY, Standardize

# As the learned scale of Gidaris and Komodakis (1804.09458) starts; here nothing is trained that could change it.
SHARPNESS = 10.0


class Prototypes(nn.Module):
    """Logits by the distance of features to prototypes, which are the rows of `out.weight`.

    Features are transformed first, and prototypes are means of transformed features.

    Args:
        spec: Its `distance`, `transform` and `hidden` count.
        features: D.
        classes: C.

    Attributes:
        center: Subtracts the stored mean of the training features, with transform `cl2n`.
        relation: The learned comparison, with distance `relation`.
    """

    def __init__(self, spec: HeadSpec, features: int, classes: int) -> None:
        super().__init__()
        self.distance: Distance = spec.distance
        self.normalizes = spec.transform != "none"
        self.center = Standardize(features) if spec.transform == "cl2n" else nn.Identity()
        if spec.distance == "relation":
            self.relation = Relation(features, spec.hidden)
        self.out = nn.Linear(features, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features `(B, D)` to logits `(B, C)`."""
        x = self.transform(x)
        if self.distance == "relation":
            return self.compare(x, self.out.weight)
        # By the layer, which channel pruning follows, and not by its weights.
        products = self.out(x)
        if self.distance == "euclidean":
            return _euclidean(products, self.out.weight)
        return _cosine(products, x, self.out.weight)

    def transform(self, x: Tensor) -> Tensor:
        """Map features `(B, D)` to those that are compared `(B, D)`."""
        centered: Tensor = self.center(x)
        return centered / centered.norm(dim=1, keepdim=True).clamp_min(TINY) if self.normalizes else centered

    def compare(self, x: Tensor, prototypes: Tensor) -> Tensor:
        """Map transformed features `(B, D)` and prototypes `(C, D)` to logits `(B, C)`."""
        if self.distance == "relation":
            logits: Tensor = self.relation(x, prototypes)
            return logits
        return prototype_logits(x, prototypes, self.distance)

    @torch.no_grad()
    def fit_(self, features: Tensor, labels: Tensor) -> None:
        """Set the stored mean and the prototypes, in place, to those of features `(N, D)` with labels `(N,)`."""
        if isinstance(self.center, Standardize):
            self.center.fit_(features.mean(0), torch.ones_like(features[0]))
        self.out.weight.copy_(class_means(self.transform(features), labels, len(self.out.weight)))


class Relation(nn.Module):
    """A learned comparison of a feature with a prototype: two layers on both, side by side.

    The first layer is a sum of two products, one for each side, so that C prototypes cost one product and not B.

    Args:
        features: D.
        hidden: H.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.query, self.prototype = nn.Linear(features, hidden), nn.Linear(features, hidden, bias=False)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, prototypes: Tensor) -> Tensor:
        """Map features `(B, D)` and prototypes `(C, D)` to scores `(B, C)`."""
        pairs = F.relu(self.query(x)[:, None] + self.prototype(prototypes)[None])
        scores: Tensor = self.score(pairs)[:, :, 0]
        return scores


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
