"""Gradients of a batch."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.train.devices import Device
from effxfer.train.optim.microbatch import split
from effxfer.train.optim.task_gradients import Combination, TaskGradients
from effxfer.train.settings import Amp

Loss = Callable[[Any, Any, float], Mapping[str, Tensor]]


class DivergedError(Exception):
    """The loss is not a finite number."""


class Gradients:
    """Computes the gradients of a loss, averaged over processes, and scaled under fp16.

    Args:
        learner: Module on the device.
        loss: Function from (learner, batch, progress in [0, 1)) to the terms of the loss.
        device: Device, and the other processes of a distributed run.
        amp: Mixed precision, see `FitSettings`.
        combination: How the gradients of the terms are combined; None to add them up.
    """

    def __init__(
        self, learner: nn.Module, loss: Loss, device: Device, amp: Amp, combination: Combination | None = None
    ) -> None:
        self.device, self.amp = device, amp
        self.by_task = TaskGradients(learner, combination, device) if combination else None
        # By term they are averaged when all are there, and DDP would wait for a backward pass that never comes.
        self.terms: nn.Module = _Terms(learner, loss)
        if combination is None:
            self.terms = device.parallel(self.terms)
        self.scaler = device.scaler(amp)

    def add_up(self, batch: Any, progress: float, parts: int) -> dict[str, float]:
        """Add the gradients of a batch to the parameters' gradients, one part of the batch after the other.

        Returns:
            The terms of the batch's loss.

        Raises:
            DivergedError: If the loss is not finite, in any process.
        """
        sums = dict[str, float]()
        if self.by_task:
            self.by_task.rows = None  # of an attempt that memory was too small for
        for share, part in split(batch, parts):
            with self.device.autocast(self.amp):
                terms = self.terms(part, progress)
            # In float32: sums of half-precision terms would lose digits.
            values = torch.stack([term.float() for term in terms.values()])
            losses = values.tolist()  # the only wait for a GPU in a step: it works off the rest while Python goes on
            # All together: a process that stopped alone would leave the others waiting in their gradients.
            if not self.device.agree(isfinite(sum(losses))):
                raise DivergedError(f"the loss is {sum(losses)}")
            # Times the share of its examples, so that parts add up to the mean of the whole batch.
            if self.by_task:
                self.by_task.add({name: self.scaler.scale(term.float() * share) for name, term in terms.items()})
            else:
                self.scaler.scale(values.sum() * share).backward()
            sums = {name: sums.get(name, 0.0) + share * value for name, value in zip(terms, losses, strict=True)}
        if self.by_task:
            self.by_task.finish()
        return sums


class _Terms(nn.Module):
    """The loss as a module, so that DDP averages the gradients of any learner."""

    def __init__(self, learner: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.learner, self._loss = learner, loss

    def forward(self, batch: Any, progress: float) -> dict[str, Tensor]:
        return dict(self._loss(self.learner, batch, progress))
