"""One optimizer step: gradients (in micro-batches if memory is short), clipping, update, and averaging."""

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
from effxfer.train.optim.task_gradients import Combination
from effxfer.train.settings import FitSettings


class Update:
    """Makes optimizer steps; `state` returns everything that the next step depends on, except the weights.

    Args:
        learner: Module on the device, trained in place.
        loss: Function from (learner, batch, progress in [0, 1)) to the terms of the loss.
        settings: Optimizer, clipping, averaging and precision.
        device: Device, and the other processes of a distributed run.
        seed: Random seed of dropout and other random numbers of a step.
        before: Called when the gradients are computed, before they are clipped and applied.
        after: Called with the number of completed steps and the progress in [0, 1) of the step.
        note: Called with a record when memory runs out and batches are split further.
        most_parts: Most parts of a batch; 1 where a loss compares its examples, so that parts have another loss.
        combination: How the gradients of several tasks are combined; None to add them up.

    Attributes:
        optimizer: Optimizer with one parameter group per learning rate and weight decay.
        average: Moving average of the weights; None without `settings.ema`.
        parts: Number of parts of a batch.
    """

    def __init__(
        self, learner: nn.Module, loss: Loss, settings: FitSettings, device: Device, seed: int,
        before: Callable[[], None], after: Callable[[int, float], None], note: Callable[[Mapping[str, Any]], None],
        most_parts: int = MOST_PARTS, combination: Combination | None = None,
    ) -> None:  # fmt: skip
        self.learner, self.settings, self.device, self.seed = learner, settings, device, seed
        self.before, self.after, self.note = before, after, note
        self.gradients = Gradients(learner, loss, device, settings.amp, combination)
        self.parts, self.most_parts = 1, most_parts
        self.reset()

    def reset(self) -> None:
        """Discard optimizer state and average, but keep the number of parts that fits into memory."""
        self.optimizer = make_optimizer(self.learner, self.settings)
        self.average = Average(self.learner, self.settings.ema) if self.settings.ema else None

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, except the learner."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.gradients.scaler.state_dict(),
            "average": self.average.weights if self.average else None,
            "parts": self.parts,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.gradients.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load(state["average"])
        self.parts = state["parts"]

    def __call__(self, batch: Any, *, step: int, progress: float, factor: float) -> dict[str, float]:
        """Make one step.

        Args:
            batch: Batch for the loss.
            step: Number of the step, from 0.
            progress: Share of the whole training before this step, in [0, 1).
            factor: Factor of the learning rate.

        Returns:
            The loss, and its terms if there are several.

        Raises:
            DivergedError: If the loss is not finite.
            ResourceError: If memory runs out even for the smallest part of the batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.peak_lr * group["lr_scale"] * factor
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
        self.after(step + 1, progress)
        if self.average:
            self.average.update(self.learner, step)
        return {"loss": sum(terms.values()), **(terms if len(terms) > 1 else {})}

    def use_average(self) -> AbstractContextManager[None]:
        """Replace the learner's weights by their average within a `with` block, if there is one."""
        return self.average.applied_to(self.learner) if self.average else nullcontext()

    def tensors(self) -> list[Tensor]:
        """Return the tensors that processes share after an epoch: buffers, and the average."""
        return [*self.learner.buffers(), *(self.average.weights.values() if self.average else ())]

    def _differentiate(self, batch: Any, step: int, progress: float) -> dict[str, float]:
        """Compute the gradients of a batch; whenever memory runs out, double the number of parts."""
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
            if self.device.world > 1 or self.parts >= self.most_parts:
                raise full
            self.parts *= 2
            self.note({"out_of_memory": step, "parts": self.parts})
            # Pieces that are kept free in other sizes would make the smaller parts fail as well.
            torch.cuda.empty_cache()


def _batch_size_error(error: ValueError, full: EffxferError | None) -> Exception:
    """Return a clearer error if BatchNorm has only one value per channel; other errors are unchanged.

    Args:
        error: The error that was raised.
        full: Error for full memory, if that is the reason for small parts; it takes precedence.
    """
    if "more than 1 value per channel" not in str(error):
        return error
    text = "BatchNorm cannot learn from a batch of one image: it has one value for each channel"
    return full or SettingsError(text, "give options.batch=2 or more, and two images or more to train on", code="E217")
