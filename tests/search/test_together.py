"""The heads of several tasks share the latency that one file may add."""

from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from effxfer.search.finalist import LatencyRatio
from effxfer.search.together import select_together


@dataclass
class Head:
    """What is read of a finalist."""

    score: float
    ratio: float
    number: int = 0
    trial: SimpleNamespace = field(init=False)
    latency: LatencyRatio = field(init=False)

    def __post_init__(self):
        self.trial = SimpleNamespace(value=self.score, number=self.number)
        self.latency = LatencyRatio(ms=self.ratio, ratio=self.ratio, low=self.ratio, high=self.ratio)

    def value(self, _search):
        return self.score


class Task:
    """What is read of the finals of a task, whose result is the selected head."""

    def __init__(self, *heads, prefer="accuracy"):
        self.finalists = list(heads)
        self.plain = heads[0]
        self.search = SimpleNamespace(settings=SimpleNamespace(prefer=prefer))

    def best(self):
        return "best"

    def result(self, winner, reason):
        assert "latency of a file" in reason
        return winner


def test_what_one_task_does_not_need_another_may_use():
    modest = Task(Head(0.7, 1.0), Head(0.71, 1.04))
    needy = Task(Head(0.3, 1.0), Head(0.8, 1.045))
    found = select_together([modest, needy], 1.05)
    assert [head.score for head in found] == [0.7, 0.8]
    assert [head.score for head in select_together([modest, needy], 1.1)] == [0.71, 0.8]
    assert [head.score for head in select_together([modest, needy], 1.0)] == [0.7, 0.3], "plain heads add nothing"


@pytest.mark.parametrize("seed", range(5))
def test_no_other_selection_within_the_limit_is_better(seed):
    rng = np.random.default_rng(seed)
    tasks = [
        Task(*(Head(rng.random(), 1.0 if k == 0 else 1 + rng.integers(0, 40) / 1000, k) for k in range(4)))
        for _ in range(3)
    ]
    found = select_together(tasks, 1.05)
    assert sum(head.ratio - 1 for head in found) <= 0.05 + 1e-9
    every = product(*(task.finalists for task in tasks))
    sums = [sum(h.score for h in heads) for heads in every if sum(h.ratio - 1 for h in heads) <= 0.05 + 1e-9]
    assert sum(head.score for head in found) == pytest.approx(max(sums))


def test_each_is_selected_by_itself_without_a_limit_or_where_speed_is_preferred():
    tasks = [Task(Head(0.5, 1.0), Head(0.6, 1.5))] * 2
    assert select_together(tasks, None) == ["best"] * 2
    assert select_together(tasks[:1], 1.05) == ["best"]
    assert select_together([Task(Head(0.5, 1.0), prefer="fast")] * 2, 1.05) == ["best"] * 2
