"""Measure the pace of training, and plan the steps that fit into a time budget."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

# Share of the budget for measuring. The pace is revised after every epoch, so a rough start is enough.
SHARE = 0.02
FEWEST = 3  # steps measured at least: after the first, slower one, a median of three
# Chosen: a budget that is too short for ten steps is exceeded, rather than spent on a training without effect.
LEAST = 10
# Chosen: each change of the total moves the schedule of the rate, and a pace varies by a few percent.
CHANGED = 0.03


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The time budget of a training.

    Attributes:
        seconds: Total seconds, for steps and a validation after every epoch.
        validations: Work after training within the same time, as a multiple of a validation.
    """

    seconds: float
    validations: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Pace of a training run.

    Attributes:
        step: Seconds per step.
        validation: Seconds per validation.
    """

    step: float
    validation: float

    def steps_within(self, allowance: Allowance, spent: float, length: int) -> int:
        """Return how many steps fit into the rest of an allowance, with a validation after each `length` of them.

        >>> Pace(step=1, validation=10).steps_within(Allowance(seconds=100, validations=2), spent=20, length=10)
        30
        """
        remaining = allowance.seconds - spent - self.validation * allowance.validations
        return max(int(remaining / (self.step + self.validation / length)), 0)

    def at_least(self, bound: "Pace") -> "Pace":
        """Return the slower pace of the two, for steps and for validation."""
        return Pace(step=max(self.step, bound.step), validation=max(self.validation, bound.validation))


class Timetable:
    """Plans the number of steps that fits into a time budget.

    Args:
        allowance: The time budget.
        length: Steps per epoch.
        epochs: Maximum number of epochs.
    """

    def __init__(self, allowance: Allowance, length: int, epochs: int) -> None:
        self.allowance, self.length, self.max_steps = allowance, length, length * epochs
        self.first: Pace | None = None

    def plan_steps(self, pace: Pace, completed: int, spent: float) -> int:
        """Plan the total number of steps from the initial pace; at least ten, or one epoch if that is shorter."""
        self.first = pace
        return self._plan_within(pace, completed, spent)

    def revise_steps(self, total: int, pace: Pace, *, completed: int, spent: float, all_trained: bool) -> int:
        """Revise the total number of steps after an epoch; it grows only in the first half of training.

        Args:
            total: Planned number of steps so far.
            pace: Pace of the last epoch.
            completed: Completed steps.
            spent: Seconds so far.
            all_trained: Whether the last epoch trained all parameters that any epoch trains. If not, later steps may
                take as long as the first ones.
        """
        steps = self._plan_within(
            pace if all_trained or self.first is None else pace.at_least(self.first), completed, spent
        )
        # Late in a schedule the rate is low; more steps would raise it again.
        late = steps > total and completed > total / 2
        return steps if abs(steps - total) > CHANGED * total and not late else total

    def _plan_within(self, pace: Pace, completed: int, spent: float) -> int:
        steps = completed + pace.steps_within(self.allowance, spent, self.length)
        return min(max(steps, min(self.length, LEAST), completed), self.max_steps)


def measure_pace(
    step: Callable[[int], object], validate: Callable[[], object] | None, *, steps: int, seconds: float
) -> Pace:
    """Time a few steps and a validation; the caller undoes what they did.

    Args:
        step: Makes the step with a number.
        validate: Runs a validation; None if there is none.
        steps: Number of steps of an epoch.
        seconds: Time budget of the whole training; measuring takes 2 % of it, or the time of 3 steps.
    """
    times, began = list[float](), time.perf_counter()
    for number in range(steps):
        start = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - start)
        if number >= FEWEST and time.perf_counter() - began > SHARE * seconds:
            break
    start = time.perf_counter()
    if validate:
        validate()
    # Without the first step, which allocates memory and compiles kernels.
    return Pace(step=median(times[1:] or times), validation=time.perf_counter() - start)
