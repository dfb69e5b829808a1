"""Batch spectral shrinkage: no negative transfer through weak directions (Chen et al., NeurIPS 2019).

"Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer Learning",
https://proceedings.neurips.cc/paper/2019/hash/c6bff625bdb0393992c9d4db0c6bbe45-Abstract.html

Shape legend: B images, D features.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.regularized.reference_model import capture_head_inputs


class Bss(Strategy):
    """Fine-tune every weight, and shrink the smallest singular values of each batch's features.

    Attributes:
        eta: Weight of their squares; 0 is plain fine-tuning. The paper's is 0.001.
        values: How many of the smallest singular values shrink.
    """

    # Features of positions have no batch of examples whose spectrum could shrink.
    takes: ClassVar[frozenset[str]] = frozenset({"multi", "single", "value"})

    eta: float = Field(default=1e-3, ge=0)
    values: int = Field(default=1, ge=1)  # the paper's k

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy and the sum of the smallest squared singular values."""
        with capture_head_inputs(learner) as features:
            terms = super().loss(learner, batch, progress)
        return {**terms, "spectrum": self.eta * smallest_spectrum(features[-1], self.values)}


def smallest_spectrum(features: Tensor, count: int) -> Tensor:
    """Sum the squares of the `count` smallest singular values of features `(B, D)`.

    They are the eigenvalues of the smaller Gram matrix, whose gradient is defined where they are equal, too.
    """
    # eigvalsh takes no half precision, whose smallest values would be noise.
    with torch.autocast(features.device.type, enabled=False):
        x = features.float()
        gram = x @ x.mT if x.shape[0] <= x.shape[1] else x.mT @ x
        squares: Tensor = torch.linalg.eigvalsh(gram)
        return squares[:count].sum()
