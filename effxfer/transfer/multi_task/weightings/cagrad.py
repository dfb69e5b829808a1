"""Conflict-averse gradients (Liu et al., 2021, https://arxiv.org/abs/2110.14048).

Shape legend: T tasks, P parameters that they share.
"""

from collections.abc import Sequence
from math import sqrt
from operator import mul
from typing import ClassVar

from torch import Tensor

from effxfer.transfer.multi_task.weightings.simplex import minimize_on_simplex, quadratic
from effxfer.transfer.multi_task.weightings.weighting import Weighting


def cagrad(gradients: Tensor, c: float = 0.4) -> Tensor:
    """Give the direction `(P,)` within `c * |mean|` of the mean gradient that helps the worst task most.

    Args:
        gradients: One row per task, `(T, P)`.
        c: In [0, 1); 0 is the null value: the mean.
    """
    count, gram = len(gradients), (gradients @ gradients.T).double()
    # By their size: so that gradients of any scale are solved to the same digits.
    products = (gram / gram.trace().clamp_min(1e-300)).tolist()
    along_mean = [sum(row) / count for row in products]
    radius = c * sqrt(quadratic(products, [1 / count] * count))

    def dual(weights: Sequence[float]) -> float:
        along = float(sum(map(mul, along_mean, weights)))
        return along + radius * sqrt(quadratic(products, weights))

    weights = minimize_on_simplex(dual, count)
    length = sqrt(quadratic(products, weights))
    factor = radius / length if length > 0 else 0.0
    return gradients.new_tensor([1 / count + factor * weight for weight in weights]) @ gradients


class CaGrad(Weighting):
    """Directions near the mean gradient that help the worst task; times T, so that rates are those of a sum.

    Args:
        tasks: Number of tasks.
        c: See `cagrad`.
    """

    combines: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ("c",)

    def __init__(self, tasks: int, c: float = 0.4) -> None:
        super().__init__(tasks)
        self.c = c

    def combine(self, gradients: Tensor) -> Tensor:
        """Return `cagrad` of the gradients times T."""
        return self.tasks * cagrad(self.nonzero(gradients), self.c)
