"""Dynamic weight averaging: by how fast losses fell lately (Liu et al., 2019, https://arxiv.org/abs/1803.10704)."""

from typing import ClassVar

import torch
from torch import Tensor

from effxfer.transfer.multi_task.weightings.weighting import Weighting


class Dwa(Weighting):
    """Weigh each loss by the softmax of the ratio of its means in the last two epochs; a slow task weighs more.

    Args:
        tasks: Number of tasks.
        temperature: Of the softmax, above 0; the larger, the more alike the weights. Infinity would be the null value.
    """

    settings: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(self, tasks: int, temperature: float = 2.0) -> None:
        super().__init__(tasks)
        self.temperature = temperature
        # Sums of the present epoch, means of the last one and of the one before; 0 before there was one.
        self.register_buffer("sums", torch.zeros(tasks))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(tasks))
        self.register_buffer("earlier", torch.zeros(tasks))
        self.sums: Tensor
        self.count: Tensor
        self.last: Tensor
        self.earlier: Tensor

    def begin_epoch(self) -> None:
        """Close the means of the last epoch."""
        if int(self.count):
            self.earlier.copy_(self.last)
            self.last.copy_(self.sums / self.count)
            self.sums.zero_()
            self.count.zero_()

    def weigh(self, losses: Tensor) -> Tensor:
        """Multiply each loss by its weight of this epoch."""
        return losses * self.weights()

    def after_step(self, losses: Tensor) -> None:
        """Add the losses to the means of the present epoch."""
        super().after_step(losses)
        self.sums += losses
        self.count += 1

    def weights(self) -> Tensor:
        """Return the weights of the present epoch, `(T,)`, with the sum T; 1 until two epochs are over."""
        ratio = torch.where(self.earlier > 0, self.last / self.earlier.clamp_min(1e-12), torch.ones_like(self.last))
        return self.tasks * (ratio / self.temperature).softmax(0)
