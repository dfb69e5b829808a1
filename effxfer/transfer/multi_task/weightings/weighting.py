"""What every weighting of tasks is: a module with its state, and the methods that differ.

Shape legend: T tasks, P parameters that they share.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn


class Weighting(nn.Module):
    """The plain sum of the losses; the null value of every other weighting.

    State that must survive is in parameters and buffers, and moves in `begin_epoch`, `combine` and `after_step`.

    Attributes:
        combines: Whether it needs the gradients of each task by itself, which take T times the shared parameters.
        settings: Names of the options of the strategy that it takes, as its own arguments.
        steps: Completed steps.
    """

    combines: ClassVar[bool] = False
    settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor

    def begin_epoch(self) -> None:
        """Move what changes from epoch to epoch."""

    def weigh(self, losses: Tensor) -> Tensor:
        """Turn the losses of the tasks `(T,)` into the terms whose sum is minimised; it changes no state."""
        return losses

    def combine(self, gradients: Tensor) -> Tensor | None:
        """Combine the gradients of the terms with respect to what they share, `(T, P)`; None is their sum."""
        return None

    def after_step(self, losses: Tensor) -> None:
        """Move what changes from step to step.

        Args:
            losses: Losses of the tasks `(T,)` in this step, without weights.
        """
        self.steps += 1

    def weights(self) -> Tensor | None:
        """Return the present weights `(T,)` for reports; None if it has none."""
        return None

    @staticmethod
    def nonzero(gradients: Tensor) -> Tensor:
        """Return the rows of the tasks that the batch has labels of, `(t, P)`; all if it has none.

        A task without a label has a gradient of 0, and a direction that may hurt no task would be 0, too.
        """
        present = gradients.any(1)
        return gradients[present] if bool(present.any()) else gradients

    def generator(self) -> torch.Generator:
        """Return random numbers that depend on the number of completed steps alone, alike in every process."""
        return torch.Generator().manual_seed(int(self.steps))
