import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.data.batches.buckets import bucket_rows, bucketed_batches, length_order, padding_share

LENGTHS = st.lists(st.integers(0, 40), max_size=200).map(lambda values: np.array(values, np.int64))
SEED = st.integers(0, 2**32)


@given(LENGTHS, st.integers(1, 9), SEED, st.integers(0, 5), st.integers(1, 5))
def test_every_row_occurs_once_in_an_epoch(lengths, size, seed, epoch, stretch):
    batches = bucketed_batches(lengths, size, seed, epoch, stretch)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    assert [len(batch) for batch in batches] == [size] * (len(lengths) // size) + [len(lengths) % size] * bool(
        len(lengths) % size
    )


@given(LENGTHS, st.integers(1, 9), SEED, st.integers(0, 5))
def test_equal_seeds_and_epochs_give_equal_batches(lengths, size, seed, epoch):
    first, second = (bucketed_batches(lengths, size, seed, epoch) for _ in range(2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]


def test_other_seeds_and_epochs_give_other_batches():
    lengths = np.arange(400)
    epochs = [bucketed_batches(lengths, 8, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(np.concatenate(batches).tolist()) for batches in epochs}) == 9


@given(SEED, st.integers(8, 32))
def test_padding_is_a_small_share_of_what_it_is_without_buckets(seed, size):
    lengths = np.random.default_rng(seed).lognormal(3, 0.6, 2000).astype(np.int64) + 2
    plain = padding_share(lengths, bucketed_batches(lengths, size, seed, 0, stretch=1))
    bucketed = padding_share(lengths, bucketed_batches(lengths, size, seed, 0))
    assert bucketed < 0.2
    assert bucketed < plain / 2


def test_rows_of_a_stretch_alone_are_sorted():
    lengths = np.arange(100)
    batches = bucketed_batches(lengths, 5, 0, 0, stretch=2)
    assert max(np.ptp(batch) for batch in batches) > 20
    batches = bucketed_batches(lengths, 5, 0, 0, stretch=20)
    assert {tuple(np.diff(batch)) for batch in batches} == {(1, 1, 1, 1)}


def test_the_last_smaller_batch_has_rows_of_any_length():
    lengths = np.arange(103)
    last = [bucketed_batches(lengths, 10, seed, 0)[-1] for seed in range(200)]
    assert {len(batch) for batch in last} == {3}
    assert 35 < np.concatenate(last).mean() < 67


@given(LENGTHS)
def test_results_come_back_in_the_rows_own_order(lengths):
    order, inverse = length_order(lengths)
    assert (np.diff(lengths[order]) <= 0).all()
    assert order[inverse].tolist() == list(range(len(lengths)))
    assert lengths[order][inverse].tolist() == lengths.tolist()


@pytest.mark.parametrize(("batches", "share"), [([[0, 1]], 0.25), ([[0], [1]], 0.0), ([], 0.0), ([[]], 0.0)])
def test_padding_is_counted(batches, share):
    lengths = np.array([2, 4])
    assert padding_share(lengths, [np.array(batch, np.int64) for batch in batches]) == share


def test_rows_may_occur_several_times_or_not_at_all():
    drawn = np.array([3, 3, 0, 3, 0, 1])
    batches = bucket_rows(drawn, np.array([5, 1, 9, 2]), 2, np.random.default_rng(0))
    assert sorted(tuple(batch.tolist()) for batch in batches) == [(0, 0), (1, 3), (3, 3)]
