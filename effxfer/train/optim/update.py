"""One optimizer step: the gradients of a batch, in parts where memory is short, what is done with them, and after."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.data.batches.batches import seed_of
from effxfer.errors import EffxferError, SettingsError, memory_full, out_of_memory
from effxfer.train.devices import Device
from effxfer.train.optim.ema import Average
from effxfer.train.optim.gradients import Gradients, Loss
from effxfer.train.optim.microbatch import MOST_PARTS
from effxfer.train.optim.param_groups import make_optimizer
from effxfer.train.settings import FitSettings


class Update:
    """Makes optimizer steps; everything the next one depends on, beside the weights, is in `state`.

    Args:
        learner: On the device; trained in place.
        loss: Gives the terms of the loss from (learner, batch, progress in [0, 1)).
        settings: Optimizer, clipping, average, precision.
        device: Where, and with which other processes.
        seed: Of dropout and whatever else is drawn in a step.
        before: Called when the gradients are there, before they are clipped and used.
        after: Called with the number of steps done.
        note: Told when memory ran out and a batch is taken in more parts.

    Attributes:
        optimizer: With a group of parameters for each rate and decay.
        average: Of the weights; None without `settings.ema`.
        parts: Parts of a batch.
    """

    def __init__(
        self, learner: nn.Module, loss: Loss, settings: FitSettings, device: Device, seed: int,
        before: Callable[[], None], after: Callable[[int], None], note: Callable[[Mapping[str, Any]], None],
    ) -> None:  # fmt: skip
        self.learner, self.settings, self.device, self.seed = learner, settings, device, seed
        self.before, self.after, self.note = before, after, note
        self.gradients = Gradients(learner, loss, device, settings.amp)
        self.parts = 1
        self.reset()

    def reset(self) -> None:
        """Forget all steps so far, but not how much fits into memory."""
        self.optimizer = make_optimizer(self.learner, self.settings)
        self.average = Average(self.learner, self.settings.ema) if self.settings.ema else None

    def state(self) -> dict[str, Any]:
        """Give everything that the next step depends on, beside the learner."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.gradients.scaler.state_dict(),
            "average": self.average.weights if self.average else None,
            "parts": self.parts,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.gradients.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load(state["average"])
        self.parts = state["parts"]

    def __call__(self, batch: Any, *, step: int, progress: float, factor: float) -> dict[str, float]:
        """Make one step.

        Args:
            batch: As the loss takes it.
            step: Its number, from 0.
            progress: Share of the whole training before it, in [0, 1).
            factor: Of the learning rate.

        Returns:
            The loss, and its terms where they are several.

        Raises:
            DivergedError: If the loss is not finite.
            ResourceError: If memory runs out even for a sixteenth of the batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * group["lr_scale"] * factor
        # After the rates: a step that is taken again in more parts has the same ones.
        terms = self._differentiate(batch, step, progress)
        # Before whoever looks at gradients or clips them: they see true values.
        self.gradients.scaler.unscale_(self.optimizer)
        self.before()
        if self.settings.clip:
            nn.utils.clip_grad_norm_([p for p in self.learner.parameters() if p.grad is not None], self.settings.clip)
        self.gradients.scaler.step(self.optimizer)
        self.gradients.scaler.update()
        # Before the average, which would otherwise take in masked weights that the step made nonzero.
        self.after(step + 1)
        if self.average:
            self.average.update(self.learner, step)
        return {"loss": sum(terms.values()), **(terms if len(terms) > 1 else {})}

    def use_average(self) -> AbstractContextManager[None]:
        """Put the average into the learner for a while, if there is one."""
        return self.average.applied_to(self.learner) if self.average else nullcontext()

    def tensors(self) -> list[Tensor]:
        """What processes share after an epoch: buffers, and the average."""
        return [*self.learner.buffers(), *(self.average.weights.values() if self.average else ())]

    def _differentiate(self, batch: Any, step: int, progress: float) -> dict[str, float]:
        """Compute the gradients of a batch; in parts, twice as many at a time, where memory runs out."""
        full: EffxferError | None = None
        while True:
            # At every attempt, so that a step in more parts draws what it would have drawn; by
            # rank, so that processes differ.
            self.device.draw_from(seed_of(self.seed, "step", step, self.device.rank))
            self.optimizer.zero_grad()
            try:
                return self.gradients.add_up(batch, progress, self.parts)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                full = memory_full(error)
            except ValueError as error:
                raise _batch_size_error(error, full) from error
            # Other processes cannot know of it, and would wait for gradients that never come.
            if self.device.world > 1 or self.parts >= MOST_PARTS:
                raise full
            self.parts *= 2
            self.note({"out_of_memory": step, "parts": self.parts})
            # Pieces that are kept free in other sizes would make the smaller parts fail as well.
            torch.cuda.empty_cache()


def _batch_size_error(error: ValueError, full: EffxferError | None) -> Exception:
    """Say what to do where BatchNorm has one value for each channel; any other error stays what it is.

    Args:
        error: What was raised.
        full: That memory ran out, where that is why parts are so small.
    """
    if "more than 1 value per channel" not in str(error):
        return error
    text = "BatchNorm cannot learn from a batch of one image: it has one value for each channel"
    return full or SettingsError(text, "give options.batch=2 or more, and two images or more to train on", code="E217")
