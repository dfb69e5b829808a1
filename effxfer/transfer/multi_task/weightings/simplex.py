"""Minimise a convex function of weights that are not negative and add up to 1.

In plain numbers: of a few weights, tensors would take fifty times as long in every training step.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

GOLDEN = (5**0.5 - 1) / 2
ROUNDS = 20  # sweeps over all pairs, at most: two tasks need one, ten needed 15 until no weight moved by 1e-9
SHRINKS = 45  # of an interval, each to 0.618 of it: below 1e-9 of a weight
STILL = 1e-9
EXCHANGES = 10_000  # at most; of 300 problems of five random tasks one needed 6,128, which took 31 ms
NO_GAIN = 1e-10  # of the largest squared length
Objective = Callable[[Sequence[float]], float]


def minimize_on_simplex(objective: Objective, count: int) -> list[float]:
    """Move weight between two entries at a time, by golden section, until nothing moves.

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


def shortest_mean(products: Sequence[Sequence[float]]) -> list[float]:
    """Return the weights of the shortest weighted mean of vectors, from their products `(count, count)`.

    Weight moves from the vector that lengthens the mean most to the one that shortens it most, each time by the best
    amount, until no vector's product with the mean is below the mean's own square: what defines the shortest one.
    """
    count = len(products)
    weights = [1 / count] * count
    along = [sum(row) / count for row in products]  # products of the vectors with the mean
    enough = NO_GAIN * max(products[i][i] for i in range(count))
    for _ in range(EXCHANGES):
        taker = min(range(count), key=along.__getitem__)
        giver = max((i for i in range(count) if weights[i] > 0), key=along.__getitem__)
        if along[giver] - along[taker] <= enough:
            break
        curvature = products[giver][giver] - 2 * products[giver][taker] + products[taker][taker]
        # Vectors that differ in rounding alone have no curvature: all weight may move.
        best = (along[giver] - along[taker]) / curvature if curvature > 0 else weights[giver]
        moved = min(best, weights[giver])
        weights[giver] -= moved
        weights[taker] += moved
        along = [
            a + moved * (to - of) for a, to, of in zip(along, products[taker], products[giver], strict=True)
        ]  # fmt: skip
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
