"""Constant weights: equal ones, or tuned ones, the control that others must beat (Kurin et al., 2022).

https://arxiv.org/abs/2201.04122 and https://arxiv.org/abs/2209.11379 find no weighting better than tuned constants.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from effxfer.transfer.multi_task.weightings.weighting import Weighting


class Equal(Weighting):
    """A constant weight for each task.

    Args:
        tasks: Number of tasks.
        weights: The weights `(T,)`, above or equal to 0; empty, the null value, is 1 for each.
    """

    settings: ClassVar[tuple[str, ...]] = ("weights",)

    def __init__(self, tasks: int, weights: Sequence[float] = ()) -> None:
        super().__init__(tasks)
        self.register_buffer("constants", torch.tensor(list(weights) or [1.0] * tasks))
        self.constants: Tensor

    def weigh(self, losses: Tensor) -> Tensor:
        """Multiply each loss by its constant."""
        return losses * self.constants

    def weights(self) -> Tensor:
        """Return the constants."""
        return self.constants
