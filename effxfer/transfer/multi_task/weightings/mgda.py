"""Multiple-gradient descent (Désidéri, 2012; Sener and Koltun, 2018, https://arxiv.org/abs/1810.04650).

Shape legend: T tasks, P parameters that they share.
"""

from typing import ClassVar

from torch import Tensor

from effxfer.transfer.multi_task.weightings.simplex import shortest_mean
from effxfer.transfer.multi_task.weightings.weighting import Weighting


def mgda(gradients: Tensor) -> Tensor:
    """Return the shortest vector `(P,)` among all weighted means of the tasks' gradients.

    It lowers every task's loss, or is 0 where none can fall without another rising.

    Args:
        gradients: One row per task, `(T, P)`.
    """
    products = (gradients @ gradients.T).double().tolist()
    weights = shortest_mean(products)
    return gradients.new_tensor(weights) @ gradients


class Mgda(Weighting):
    """The shortest weighted mean of the gradients; times the number of tasks, so that rates are those of a sum."""

    combines: ClassVar[bool] = True

    def combine(self, gradients: Tensor) -> Tensor:
        """Return `mgda` of the gradients times T."""
        return self.tasks * mgda(self.nonzero(gradients))
