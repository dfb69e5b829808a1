import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from effxfer.search.judging.folds import fold_rows
from tests.search.tasks import corners, outputs, single, slopes


@given(
    labels=st.lists(st.integers(0, 4), min_size=6, max_size=120),
    folds=st.integers(0, 6),
    seed=st.integers(0, 99),
)
@profile(max_examples=80, deadline=None)
def test_folds_are_disjoint_stratified_and_repeat(labels, folds, seed):
    y = np.array(labels, dtype=np.int64)
    found = fold_rows(y, single(5), folds, seed)
    again = fold_rows(y, single(5), folds, seed)
    seen = np.zeros(len(y), int)
    for (train, judged), (train2, judged2) in zip(found, again, strict=True):
        assert np.array_equal(train, train2)
        assert np.array_equal(judged, judged2)
        assert not set(train) & set(judged)
        assert len(train) + len(judged) == len(y)
        seen[judged] += 1
        parts = {0: 5, 1: 5}.get(folds, folds)
        for c in np.unique(y):
            share = (y[judged] == c).sum()
            assert abs(share - (y == c).sum() / parts) < 1 + 1e-9 or (y == c).sum() == 1
    assert seen.max() <= 1
    lonely = np.bincount(y)[y] == 1
    assert not seen[lonely].any()


def test_fold_count_follows_the_size():
    assert [len(fold_rows(np.arange(n) % 2, single(2), 0, 0)) for n in (100, 1000, 5000)] == [5, 3, 1]
    ((train, judged),) = fold_rows(np.arange(100) % 2, single(2), 1, 0)
    assert (len(train), len(judged)) == (80, 20)


@pytest.mark.parametrize("make", [corners, slopes])
def test_every_example_of_several_labels_or_values_is_judged_once(make):
    _, y = make(n=203)
    folds = fold_rows(y, outputs(y), 4, 0)
    judged = np.sort(np.concatenate([rows for _, rows in folds]))
    assert np.array_equal(judged, np.arange(203))
    assert not np.array_equal(folds[0][1], fold_rows(y, outputs(y), 4, 1)[0][1])


def test_each_fold_has_its_share_of_every_tenth_of_the_values():
    _, y = slopes(n=400)
    known = ~np.isnan(y[:, 0])
    tenths = np.argsort(np.argsort(y[known, 0])) * 10 // known.sum()
    for _, rows in fold_rows(y, outputs(y), 4, 0):
        counts = np.bincount(tenths[np.isin(np.flatnonzero(known), rows)], minlength=10)
        assert counts.min() >= 8
        assert counts.max() <= 12
