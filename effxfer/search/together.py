"""Select the heads of several tasks together, such that one file keeps its latency limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from effxfer.search.finalist import Finalist, SearchResult
from effxfer.search.finalists import Finals

# Of the file's latency: no timing tells less apart, and it bounds the number of selections to compare.
STEP = 0.001


class _Selection(NamedTuple):
    """Finalists of the first tasks, the sum of their values, and of their shares of the latency in steps."""

    steps: int
    value: float
    finalists: tuple[Finalist, ...]


def select_together(finals: Sequence[Finals], limit: float | None) -> list[SearchResult]:
    """Select a finalist for each task, with the largest sum of metrics less penalties within a latency limit.

    Each finalist was timed in a file where the other tasks have plain linear heads. What heads add to a file adds up.

    Args:
        finals: Of each task.
        limit: Largest latency of the file divided by that with plain linear heads, at least 1; None for no limit.
    """
    timed = [finalist for each in finals for finalist in each.finalists if finalist.latency]
    if len(finals) == 1 or limit is None or not timed or finals[0].search.settings.prefer == "fast":
        return [each.best() for each in finals]
    selections = [_Selection(0, 0.0, ())]
    for each in finals:
        selections = _extend(selections, each, math.floor((limit - 1) / STEP + 1e-9))
    best = max(selections, key=lambda selection: selection.value)
    reason = (
        f"the heads of the {len(finals)} tasks are taken that do best on val together, less their penalties, and add "
        f"at most {100 * (limit - 1):.3g} % to the latency of a file with linear heads"
    )
    return [each.result(winner, reason) for each, winner in zip(finals, best.finalists, strict=True)]


def _extend(selections: Sequence[_Selection], finals: Finals, limit: int) -> list[_Selection]:
    """Return the selections with one more task; of those with a latency only the best one, and none that another beats.

    The plain linear head adds nothing, so that there is always one.
    """
    best = dict[int, _Selection]()
    for finalist in sorted(finals.finalists, key=_rank):
        value, added = finalist.value(finals.search), _steps(finalist, finals.plain)
        for before in selections:
            steps, total = before.steps + added, before.value + value
            # Strictly: of equals the better on the folds stays, then the earlier one.
            if steps <= limit and (steps not in best or total > best[steps].value):
                best[steps] = _Selection(steps, total, (*before.finalists, finalist))
    front = list[_Selection]()
    for steps in sorted(best):
        if not front or best[steps].value > front[-1].value:
            front.append(best[steps])
    return front


def _rank(finalist: Finalist) -> tuple[float, int]:
    return -finalist.trial.value, finalist.trial.number


def _steps(finalist: Finalist, plain: Finalist) -> int:
    if finalist is plain or not finalist.latency:
        return 0
    return max(0, math.ceil((finalist.latency.ratio - 1) / STEP - 1e-9))
