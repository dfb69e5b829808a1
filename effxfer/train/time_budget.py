"""How fast training goes, and so how much of it fits into a time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

SHARE = 0.02
FEWEST = 3
LEAST = 10
CHANGED = 0.03


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The time there is for a training.

    Attributes:
        seconds: For its steps, and a validation after every epoch.
        validations: What is done afterwards, as a multiple of a validation; the time must hold it as well.
    """

    seconds: float
    validations: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What training takes.

    Attributes:
        step: Seconds for one.
        validation: Seconds for one.
    """

    step: float
    validation: float

    def fitting(self, allowance: Allowance, spent: float, length: int) -> int:
        """How many steps fit into what is left of an allowance, with a validation after each `length` of them.

        >>> Pace(step=1, validation=10).fitting(Allowance(seconds=100, validations=2), spent=20, length=10)
        30
        """
        left = allowance.seconds - spent - self.validation * allowance.validations
        return max(int(left / (self.step + self.validation / length)), 0)

    def at_least(self, other: "Pace") -> "Pace":
        """The slower one of each."""
        return Pace(step=max(self.step, other.step), validation=max(self.validation, other.validation))


class Timetable:
    """How many steps a training has: as many as fit into the time there is.

    Args:
        allowance: That time.
        length: Steps of an epoch.
        epochs: The most there may be.
    """

    def __init__(self, allowance: Allowance, length: int, epochs: int) -> None:
        self.allowance, self.length, self.most = allowance, length, length * epochs
        self.first: Pace | None = None

    def planned(self, pace: Pace, done: int, spent: float) -> int:
        """All steps at the pace with which training begins: ten at least, or one epoch's."""
        self.first = pace
        return self._fitting(pace, done, spent)

    def revised(self, total: int, pace: Pace, *, done: int, spent: float, whole: bool) -> int:
        """All steps after an epoch at another pace; more than `total` only in the first half.

        Args:
            total: What was thought so far.
            pace: Of the last epoch.
            done: Steps so far.
            spent: Seconds so far.
            whole: Whether all that is ever trained was trained; if not, later steps may take as long as the first.
        """
        found = self._fitting(pace if whole or self.first is None else pace.at_least(self.first), done, spent)
        late = found > total and done > total / 2
        return found if abs(found - total) > CHANGED * total and not late else total

    def _fitting(self, pace: Pace, done: int, spent: float) -> int:
        steps = done + pace.fitting(self.allowance, spent, self.length)
        return min(max(steps, min(self.length, LEAST), done), self.most)


def measure_pace(
    step: Callable[[int], object], validate: Callable[[], object] | None, *, steps: int, seconds: float
) -> Pace:
    """Time a few steps and a validation; the caller undoes what they did.

    Args:
        step: Makes the step of a number.
        validate: None where there is none.
        steps: How many steps there are.
        seconds: What the whole training may take: 2 % of it go into this, or the time of 3 steps.
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
    return Pace(step=median(times[1:] or times), validation=time.perf_counter() - start)
