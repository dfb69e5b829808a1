"""The training loop for networks. Heads on cached features have their own loop, `search.head_training`.

A step depends only on (seed, step), the weights and the optimizer's state. A run that is killed and resumed from its
last checkpoint therefore ends with the same weights as an uninterrupted one: bit for bit on a CPU with the same number
of threads.
"""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from effxfer import progress
from effxfer.data.batches.batches import Batches, seed_of
from effxfer.errors import GateError
from effxfer.process.timing_lock import pause_for_timing
from effxfer.runtime.outputs.base import BELOW_ALL
from effxfer.train.devices import Device
from effxfer.train.heap import freed_memory_kept
from effxfer.train.optim.gradients import DivergedError, Loss
from effxfer.train.optim.microbatch import MOST_PARTS
from effxfer.train.optim.task_gradients import Combination
from effxfer.train.optim.update import Update
from effxfer.train.settings import FitSettings, rate
from effxfer.train.state import Work, clone, load, save
from effxfer.train.time_budget import Allowance, Pace, Timetable, measure_pace
from effxfer.train.train_mode import train_mode

Row = dict[str, float]
LATE = 0.99  # progress at which the pace is measured: by then gradual unfreezing trains everything, the slowest steps


@dataclass(frozen=True, kw_only=True)
class StepRange:
    """Range of steps to run, `[first, last)` of the whole training; None is the end.

    Lottery tickets rewind to a step: the steps before it are run once, and every round starts at that step.
    """

    first: int = 0
    last: int | None = None


@dataclass
class LoopState:
    """State of the training loop that a checkpoint stores beside the weights.

    Attributes:
        step: Completed steps.
        history: One row per completed epoch.
        best_score: Highest validation score so far; `BELOW_ALL` before the first one.
        best: Parameters and buffers of the best epoch; None if they are not kept.
        waited: Epochs since the best one.
        slowed: Factor on the learning rate: 1, or 0.1 after training diverged.
        total: Number of steps that fit into the time budget; None if it is not set.
        spent: Seconds of training and validation so far.
    """

    step: int = 0
    history: list[Row] = field(default_factory=list)
    best_score: float = BELOW_ALL  # so that the first epoch counts
    best: dict[str, Tensor] | None = None
    waited: int = 0
    slowed: float = 1.0
    total: int | None = None
    spent: float = 0.0


def fit(
    learner: nn.Module,
    epochs: Callable[[int], Batches],
    loss: Loss,
    settings: FitSettings,
    *,
    device: Device,
    seed: int,
    begin_epoch: Callable[[nn.Module, float], None] = lambda learner, _progress: train_mode(learner),
    before_step: Callable[[], None] = lambda: None,
    after_step: Callable[[int], None] = lambda _steps: None,
    move_state: Callable[[int, float], None] = lambda _steps, _progress: None,
    validate: Callable[[], float] | None = None,
    observe: Callable[[], Mapping[str, float]] | None = None,
    no_best_before: int = 0,
    work: Work = Work(None),  # noqa: B008 - immutable
    span: StepRange = StepRange(),
    allowance: Allowance | None = None,
    most_parts: int = MOST_PARTS,
    combination: Combination | None = None,
    label: str = "train",
) -> list[Row]:
    """Train all parameters of `learner` that require gradients, in place.

    Args:
        learner: Module to train, already on the device. Submodules whose parameters are all frozen run in evaluation
            mode, so that their BatchNorm statistics do not change.
        epochs: Function from an epoch's seed to its batches; every epoch has the same number of batches.
        loss: Function from (learner, batch, progress in [0, 1)) to the terms of the loss, whose sum is minimised.
        settings: Epochs, optimizer and learning-rate schedule.
        device: Device, and the other processes of a distributed run.
        seed: Random seed of the order of images, augmentation and dropout.
        begin_epoch: Called with the learner and the progress in [0, 1) at the start of each epoch. It sets the modes
            and selects what is trained, among the parameters that require gradients when `fit` is called.
        before_step: Called when the gradients of a step are computed, before they are clipped and applied.
        after_step: Called with the number of completed steps after each optimizer step, for example to keep masked
            weights at zero. It may depend only on that number and on the learner's state.
        move_state: Called after `after_step` with that number and the progress in [0, 1) of the step, to move what the
            learner keeps from step to step beside trained weights: averages and queues, in its parameters and buffers.
        validate: Returns the score of the current weights, higher is better; called after each epoch.
        observe: Returns numbers of the current weights for reports, by name; called after each validation. They have no
            effect on the training.
        no_best_before: Step before which no epoch can be the best or count against `patience`, for learners whose
            masks still shrink; 0 is off.
        work: Directory of checkpoints and `metrics.jsonl`.
        span: Range of steps to run.
        allowance: Time budget, to which the number of steps is shortened; None is no limit. The number depends on the
            speed of the machine; the result depends only on the number.
        most_parts: Most parts that a batch is split into where memory is short; 1 if the loss compares its examples.
        combination: How the gradients of several tasks are combined; None to add them up.
        label: Text of the progress bar.

    Returns:
        One row per epoch: `epoch`, `loss` and its terms, `lr`, `steps_per_s` and, with `validate`, `score` and what
        `observe` returned.

    Raises:
        GateError: If the loss is NaN or infinite, also after a retry at a tenth of the learning rate; the learner then
            has the last good weights.
        ResourceError: If memory runs out even for the smallest part of a batch.
    """
    hooks = _Hooks(
        begin_epoch=begin_epoch, before_step=before_step, after_step=after_step, move_state=move_state,
        validate=validate, observe=observe, no_best_before=no_best_before,
    )  # fmt: skip
    loop = _Loop(learner, epochs, loss, settings, device, seed, hooks, work, span, allowance, most_parts, combination)
    with freed_memory_kept():
        loop.resume()
        loop.plan()
        with progress.bar(label, loop.last - span.first) as advance:
            advance(loop.at.step - span.first, "")
            while loop.at.step < loop.last and not loop.is_exhausted():
                try:
                    loop.epoch(advance)
                except DivergedError as diverged:
                    loop.roll_back(diverged)
        loop.finish()
    return loop.at.history


@dataclass(frozen=True, kw_only=True)
class _Hooks:
    """The functions of the caller that `fit` documents."""

    begin_epoch: Callable[[nn.Module, float], None]
    before_step: Callable[[], None]
    after_step: Callable[[int], None]
    move_state: Callable[[int, float], None]
    validate: Callable[[], float] | None
    observe: Callable[[], Mapping[str, float]] | None
    no_best_before: int

    def finish_step(self, steps: int, progress: float) -> None:
        """Run what follows an optimizer step."""
        self.after_step(steps)
        self.move_state(steps, progress)


class _Loop:
    def __init__(
        self, learner: nn.Module, epochs: Callable[[int], Batches], loss: Loss, settings: FitSettings, device: Device,
        seed: int, hooks: _Hooks, work: Work, span: StepRange, allowance: Allowance | None,
        most_parts: int, combination: Combination | None,
    ) -> None:  # fmt: skip
        self.learner, self.epochs, self.settings, self.device, self.seed = learner, epochs, settings, device, seed
        self.hooks, self.work, self.span = hooks, work, span
        self.update = Update(
            learner, loss, settings, device, seed, hooks.before_step, hooks.finish_step, work.note, most_parts,
            combination,
        )  # fmt: skip
        self.trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        self.length = len(epochs(seed_of(seed, 0)))
        self.memory_state: dict[str, Any] | None = None
        self.at = LoopState(step=span.first)
        self.timetable = Timetable(allowance, self.length, settings.epochs) if allowance else None
        # For a divergence before the first checkpoint.
        self.start = clone(learner)

    @property
    def total(self) -> int:
        """Number of steps of the whole training."""
        return self.length * self.settings.epochs if self.at.total is None else self.at.total

    @property
    def last(self) -> int:
        """End of the range of steps to run, exclusive."""
        return self.total if self.span.last is None else min(self.span.last, self.total)

    def plan(self) -> None:
        """Set the step count that fits the time budget, estimated from a few steps that are rolled back."""
        if self.timetable is None or self.at.total is not None or not self.total:
            return
        # Copied: the steps below are undone, so that a training with this number of steps
        # given ends with the same bits.
        began, before, batches = time.perf_counter(), deepcopy(self.state()), self.epochs(seed_of(self.seed, 0))
        batches = batches.shard(self.device.rank, self.device.world)
        self.hooks.begin_epoch(self.learner, LATE)
        pace = measure_pace(
            lambda step: self.step(step, batches[step]), self.hooks.validate,
            steps=self.length, seconds=self.timetable.allowance.seconds,
        )  # fmt: skip
        self.restore(before)
        self.unfreeze()
        # The measurement counts: the budget is the user's waiting time.
        self.at.spent = time.perf_counter() - began
        # The leader's number: with different ones the processes would wait for each other for ever.
        self.at.total = int(self.device.broadcast(float(self.timetable.plan_steps(pace, self.at.step, self.at.spent))))

    def keep_time(self, pace: Pace) -> None:
        """Revise the step count by the measured pace of an epoch."""
        if self.timetable is None or self.at.total is None:
            return
        all_trained = all(parameter.requires_grad for parameter in self.trained)
        total = self.timetable.revise_steps(
            self.at.total, pace, completed=self.at.step, spent=self.at.spent, all_trained=all_trained
        )
        self.at.total = int(self.device.broadcast(float(total)))

    def unfreeze(self) -> None:
        """Require gradients of all parameters that are trained in some epoch."""
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def resume(self) -> None:
        """Restore the checkpoint, if there is one."""
        file = self.work.file("checkpoint.pt")
        state = load(file) if file else deepcopy(self.memory_state)
        if state is not None:
            self.restore(state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.learner.load_state_dict(state["learner"])
        self.update.load(state["update"])
        self.at = LoopState(**state["progress"])

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {"learner": self.learner.state_dict(), "update": self.update.state(), "progress": vars(self.at)}

    def checkpoint(self) -> None:
        """Save the state, in memory if there is no directory."""
        file, state = self.work.file("checkpoint.pt"), self.state()
        if file is None:
            self.memory_state = deepcopy(state)
        elif self.device.leads:
            save(file, state)

    def epoch(self, advance: progress.Advance) -> None:
        """Run the current epoch to its end, validate, and save a checkpoint."""
        number = self.at.step // self.length
        batches = self.epochs(seed_of(self.seed, number)).shard(self.device.rank, self.device.world)
        self.hooks.begin_epoch(self.learner, number * self.length / self.total)
        began, sums, steps = time.perf_counter(), dict[str, float](), 0
        for step in range(self.at.step, min((number + 1) * self.length, self.last)):
            # Not counted: the pace is that of the training.
            began += pause_for_timing()
            terms = self.step(step, batches[step % self.length])
            sums = {k: sums.get(k, 0.0) + v for k, v in terms.items()}
            self.at.step, steps = step + 1, steps + 1
            parts = self.update.parts
            advance(1, f"loss {terms['loss']:.3f}" + (f", batch in {parts} parts" * (parts > 1)))
        # BatchNorm's statistics differ between processes; DDP averages gradients only.
        self.device.share_(self.update.tensors())
        # The loss may be finite while statistics are not; once per epoch, because it reads every weight.
        if not all(bool(tensor.isfinite().all()) for tensor in self.learner.state_dict().values()):
            raise DivergedError("the weights are not finite")
        row = {
            "epoch": number + 1,
            **{k: v / steps for k, v in sums.items()},
            "lr": self.update.optimizer.param_groups[0]["lr"],
        }
        # Before the validation, whose time is no part of the steps' pace.
        trained = time.perf_counter() - began
        row["steps_per_s"] = steps / trained
        self.validate(row)
        elapsed = time.perf_counter() - began
        self.at.spent += elapsed
        self.keep_time(Pace(step=trained / steps, validation=elapsed - trained))
        self.at.history.append(row)
        if self.device.leads:
            self.work.note(row)
        self.checkpoint()

    def step(self, step: int, batch: Any) -> dict[str, float]:
        """Make one optimizer step; return the loss and its terms."""
        factor = rate(step / self.total, self.settings, self.total / self.length) * self.at.slowed
        return self.update(batch, step=step, progress=step / self.total, factor=factor)

    def validate(self, row: Row) -> None:
        """Score the current or averaged weights, and record the best ones."""
        if self.hooks.validate is None:
            return
        # What is scored is what would be kept.
        with self.update.use_average():
            row["score"] = self.device.broadcast(float(self.hooks.validate()))
            row |= self.hooks.observe() if self.hooks.observe else {}
            if self.at.step < self.hooks.no_best_before:
                return
            better = row["score"] > self.at.best_score
            self.at.waited = 0 if better else self.at.waited + 1
            if better:
                self.at.best_score = row["score"]
                self.at.best = clone(self.learner) if self.settings.keep == "best" else None

    def is_exhausted(self) -> bool:
        return bool(self.settings.patience) and self.at.waited >= self.settings.patience

    def roll_back(self, diverged: DivergedError) -> None:
        """Return to the last good weights and retry once, at a tenth of the learning rate."""
        # Read first: `resume` replaces the progress, this number included.
        retried, step = self.at.slowed < 1, self.at.step
        self.learner.load_state_dict(self.start)
        # The optimizer is made anew below, for all that is ever trained.
        self.unfreeze()
        self.update.reset()
        self.at = LoopState(step=self.span.first, total=self.at.total, spent=self.at.spent)
        self.resume()
        if retried:
            hint = f"lower fit.lr (it is {self.settings.peak_lr}), set fit.clip, or fit.amp = 'off'"
            raise GateError(
                f"training diverged twice: {diverged} after {step} steps; the last good weights are kept", hint
            )
        # Chosen: a tenth, once; where the loss diverges there as well, the rate is not the only cause.
        self.at.slowed = 0.1
        self.checkpoint()
        if self.device.leads:
            self.work.note({"diverged": step, "lr": self.settings.peak_lr, "retry_lr": self.settings.peak_lr / 10})

    def finish(self) -> None:
        """Load the best, averaged or last weights into the learner, and switch it to evaluation mode."""
        # A span that ends early is no training to choose a best epoch of: it goes on from its last weights.
        complete = self.last == self.total
        if complete and self.at.best is not None:
            self.learner.load_state_dict(self.at.best)
        elif complete and self.update.average:
            self.learner.load_state_dict(self.update.average.weights)
        self.learner.eval()
