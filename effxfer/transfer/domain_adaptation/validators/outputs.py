"""What validators see of a network.

Shape legend: V validation examples of the source, N training ones, M examples of the target, C classes, D features.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainOutputs:
    """Outputs of a network on both domains; the target has no labels.

    Attributes:
        source_logits: `(V, C)`.
        source_labels: int64 `(V,)`.
        source_features: `(V, D)`.
        train_features: `(N, D)`.
        target_logits: `(M, C)`.
        target_features: `(M, D)`.
    """

    source_logits: Tensor
    source_labels: Tensor
    source_features: Tensor
    train_features: Tensor
    target_logits: Tensor
    target_features: Tensor
