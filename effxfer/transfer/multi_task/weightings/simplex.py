"""Minimise a convex function of weights that are not negative and add up to 1."""

from collections.abc import Callable, Sequence
from itertools import combinations

GOLDEN = (5**0.5 - 1) / 2
ROUNDS = 20  # sweeps over all pairs, at most: two tasks need one, ten needed 15 until no weight moved by 1e-9
SHRINKS = 45  # of an interval, each to 0.618 of it: below 1e-9 of a weight
STILL = 1e-9
Objective = Callable[[Sequence[float]], float]


def minimize_on_simplex(objective: Objective, count: int) -> list[float]:
    """Move weight between two entries at a time, by golden section, until nothing moves.

    In plain numbers: of a few weights, tensors would take fifty times as long in every training step.

    Args:
        objective: Convex function of `count` weights.
        count: Number of weights, at least 1.
    """
    weights = [1 / count] * count
    for _ in range(ROUNDS):
        before = weights
        for first, second in combinations(range(count), 2):
            weights = _exchange(objective, weights, first, second)
        if max(abs(new - old) for new, old in zip(weights, before, strict=True)) < STILL:
            break
    return weights


def quadratic(products: Sequence[Sequence[float]], weights: Sequence[float]) -> float:
    """Return the squared length of a weighted sum of vectors, from their products `(count, count)`."""
    rows = (sum(a * w for a, w in zip(row, weights, strict=True)) for row in products)
    return max(sum(w * row for w, row in zip(weights, rows, strict=True)), 0.0)


def _exchange(objective: Objective, weights: Sequence[float], first: int, second: int) -> list[float]:
    total = weights[first] + weights[second]

    def with_share(share: float) -> list[float]:
        moved = list(weights)
        moved[first], moved[second] = total * share, total * (1 - share)
        return moved

    low, high = 0.0, 1.0
    inner_low, inner_high = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    value_low, value_high = objective(with_share(inner_low)), objective(with_share(inner_high))
    for _ in range(SHRINKS):
        if value_low <= value_high:
            high, inner_high, value_high = inner_high, inner_low, value_low
            inner_low = high - GOLDEN * (high - low)
            value_low = objective(with_share(inner_low))
        else:
            low, inner_low, value_low = inner_low, inner_high, value_high
            inner_high = low + GOLDEN * (high - low)
            value_high = objective(with_share(inner_high))
    # Ends exactly: a task that takes no part has the weight 0.
    return min((with_share((low + high) / 2), with_share(0.0), with_share(1.0)), key=objective)
