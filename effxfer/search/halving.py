"""Successive halving: many a little, the better ones longer, until one is left.

Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
https://arxiv.org/abs/1502.07943.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round.

    Attributes:
        count: Number of candidates.
        share: Length of each training, as a share of the last round's.
    """

    count: int
    share: float


def rounds(count: int, eta: int) -> list[Round]:
    """Plan rounds in which one in `eta` goes on, rounded up, to be trained `eta` times as long; the last is of one.

    >>> [(one.count, round(one.share, 3)) for one in rounds(7, 3)]
    [(7, 0.111), (3, 0.333), (1, 1.0)]
    """
    counts = [count]
    while counts[-1] > 1:
        # Rounded up: with few candidates, rounding down would drop the runner-up a round early.
        counts.append(-(-counts[-1] // eta))
    return [Round(count=c, share=float(eta) ** (i + 1 - len(counts))) for i, c in enumerate(counts)]


def training_share(plan: Sequence[Round], number: int, place: int) -> float:
    """Share of the remaining time for one training, so that the later ones get theirs.

    Args:
        plan: The result of `rounds`.
        number: The round, from 0.
        place: Trainings of this round before this one.
    """
    now = plan[number]
    to_come = now.share * (now.count - place) + sum(one.share * one.count for one in plan[number + 1 :])
    return now.share / to_come


def round_share(plan: Sequence[Round], number: int) -> float:
    """Share of the remaining time for a round."""
    return plan[number].count * training_share(plan, number, 0)


def successive_halving(
    candidates: Sequence[T], plan: Sequence[Round], *, train: Callable[[T, int, int], None],
    rank: Callable[[Sequence[T]], Sequence[T]], spent: Callable[[], float] = lambda: 0.0, seconds: float | None = None,
    begin_round: Callable[[Sequence[T], int], None] = lambda _candidates, _number: None,
) -> T:  # fmt: skip
    """Run all rounds but the last, which is that of the winner alone.

    Args:
        candidates: In the order in which they are trained: where time runs out, the last ones are dropped.
        plan: The result of `rounds` for them.
        train: Trains a candidate in a round, at a place of it, both from 0.
        rank: Sorts the candidates of a round, best first.
        spent: Returns the seconds that were spent so far.
        seconds: Time limit of all rounds, the last one included; None: no limit.
        begin_round: Called with the candidates and the number of a round before it, if there is no time limit: all of
            them will be trained, and may be trained side by side.

    Returns:
        The winner.
    """
    remaining = list(candidates)
    for number, _ in enumerate(plan[:-1]):
        if len(remaining) == 1:
            break
        begun = spent()
        due = None if seconds is None else begun + (seconds - begun) * round_share(plan, number)
        if seconds is None:
            begin_round(remaining, number)
        for place, candidate in enumerate(remaining):
            # Later candidates are dropped, not shortened: scores of trainings of different
            # length do not compare. One always runs.
            if place and due is not None and spent() > due:
                remaining = remaining[:place]
                break
            train(candidate, number, place)
        remaining = list(rank(remaining))[: plan[number + 1].count]
    return remaining[0]
