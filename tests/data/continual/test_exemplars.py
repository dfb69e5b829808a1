import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effxfer.data.continual.exemplars import Exemplars, balance, exemplars_of, herd, sample_reservoir, share_out
from effxfer.runtime.rows import Ragged


def examples(labels, number=0):
    labels = np.array(labels, np.int64)
    rows = labels[:, None].astype(np.float32)
    return Exemplars(rows=rows, labels=labels, task=np.full(len(labels), number), place=np.arange(len(labels)))


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(0, 100))
def test_shares_are_as_equal_as_possible_and_leave_no_place_unused(counts, size):
    shares = share_out(counts, size)
    assert sum(shares) == min(size, sum(counts))
    assert all(0 <= share <= count for share, count in zip(shares, counts, strict=True))
    cut = [share for share, count in zip(shares, counts, strict=True) if share < count]
    assert max(shares, default=0) <= min(cut, default=100) + 1, "no group has two more than one that was cut"


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=30), min_size=1, max_size=4), st.integers(0, 40))
def test_a_memory_is_full_after_the_first_task_and_never_fuller(tasks, size):
    exemplars, total = None, 0
    for number, labels in enumerate(tasks):
        exemplars, total = balance(exemplars, examples(labels, number), size), total + len(labels)
        assert len(exemplars) <= size
        assert number or len(exemplars) == min(size, len(labels))
    assert (exemplars.rows[:, 0] == exemplars.labels).all(), "rows stay with their labels"


def test_the_first_ones_of_each_class_stay():
    first = balance(None, examples([0] * 10 + [1] * 10), 8)
    assert sorted(first.place) == [0, 1, 2, 3, 10, 11, 12, 13]
    second = balance(first, examples([2] * 10, number=1), 6)
    assert [list(second.place[second.labels == label]) for label in (0, 1, 2)] == [[0, 1], [10, 11], [0, 1]]


def test_a_reservoir_is_a_uniform_sample_of_everything():
    counts = np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        exemplars = sample_reservoir(None, examples([0] * 30), 10, 0, rng)
        exemplars = sample_reservoir(exemplars, examples([1] * 90, number=1), 10, 30, rng)
        counts += np.bincount(exemplars.labels, minlength=2)
    assert counts.sum() == 2000
    assert counts[0] / 2000 == pytest.approx(30 / 120, abs=0.05)


def test_herding_follows_the_mean_by_hand():
    """Mean (1, 0): first the point on it, then the pair around it."""
    features = np.array([[3, 0], [1, 0.1], [-1, 0], [1, -0.1]], np.float32)
    order = herd(features)
    assert set(order[:2]) == {1, 3}
    assert sorted(order) == [0, 1, 2, 3]


@pytest.mark.parametrize("ragged", [False, True])
def test_they_come_back_from_tensors(ragged):
    exemplars = examples([2, 0, 1])
    if ragged:
        exemplars = Exemplars(
            rows=Ragged.of([np.arange(n, dtype=np.int32) for n in (3, 1, 2)]),
            labels=exemplars.labels,
            task=exemplars.task,
            place=exemplars.place,
        )
    back = exemplars_of({name.removeprefix("kept/"): tensor for name, tensor in exemplars.tensors("kept/").items()})
    assert len(back) == 3
    assert (back.labels == exemplars.labels).all()
    assert (back.rows.values == exemplars.rows.values).all() if ragged else (back.rows == exemplars.rows).all()
    bare = exemplars.tensors("kept/", references=True)
    assert set(bare) == {"kept/labels", "kept/task", "kept/place"}
    assert exemplars_of({"labels": torch.zeros(0)}) is None
