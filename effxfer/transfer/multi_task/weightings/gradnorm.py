"""Weights trained until the gradients of the tasks are alike (Chen et al., 2018, https://arxiv.org/abs/1711.02257)."""

from typing import ClassVar

import torch
from torch import Tensor

from effxfer.transfer.multi_task.weightings.weighting import Weighting

SMALLEST = 1e-3  # a weight of 0 would have no gradient that could raise it again


class GradNorm(Weighting):
    """Move the weights so that each task's gradient has the mean norm, more where a loss fell less than others.

    The norms are of all shared parameters and are divided by their mean, so that the rate has no unit and loss scaling
    has no effect; the paper takes those of the last shared layer as they are.

    Args:
        tasks: Number of tasks.
        alpha: How much more a task that learns slowly is to move the body; 0 asks for equal norms.
        weight_lr: Rate of the weights, above 0; 0 would be the null value.
    """

    combines: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ("alpha", "weight_lr")

    def __init__(self, tasks: int, alpha: float = 1.5, weight_lr: float = 0.025) -> None:
        super().__init__(tasks)
        self.alpha, self.weight_lr = alpha, weight_lr
        self.register_buffer("current", torch.ones(tasks))
        self.register_buffer("norms", torch.ones(tasks))
        self.register_buffer("first", torch.zeros(tasks))
        self.current: Tensor
        self.norms: Tensor
        self.first: Tensor

    def weigh(self, losses: Tensor) -> Tensor:
        """Multiply each loss by its weight."""
        return losses * self.current

    def combine(self, gradients: Tensor) -> None:
        """Note the norms of the weighted gradients, and leave their sum."""
        self.norms.copy_(gradients.norm(dim=1))

    def after_step(self, losses: Tensor) -> None:
        """Make a step of gradient descent on `sum |norm - target norm|`, and keep the sum of the weights."""
        if not int(self.steps):
            self.first.copy_(losses.clamp_min(1e-12))
        super().after_step(losses)
        norms = self.norms / self.norms.mean().clamp_min(1e-12)
        remaining = losses / self.first
        target = (remaining / remaining.mean().clamp_min(1e-12)) ** self.alpha
        slope = torch.sign(norms - target) * norms / self.current
        moved = (self.current - self.weight_lr * slope).clamp_min(SMALLEST)
        self.current.copy_(self.tasks * moved / moved.sum())

    def weights(self) -> Tensor:
        """Return the present weights, with the sum T."""
        return self.current
