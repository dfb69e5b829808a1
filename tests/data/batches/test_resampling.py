import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effxfer.data.batches.batches import make_generator
from effxfer.data.batches.resampling import draw_balanced, draw_tables

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(sizes, st.floats(0, 1), st.integers(0, 2**32))
def test_classes_get_their_shares_and_images_of_a_class_come_equally_often(sizes, balance, seed):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = draw_balanced(labels, balance, make_generator(seed))
    shares = torch.tensor(sizes).double() ** (1 - balance)
    expected = shares / shares.sum() * len(labels)
    assert len(order) == len(labels)
    for one, count in enumerate(expected):
        shown = order[labels[order] == one]
        assert abs(len(shown) - count) <= 1
        often = torch.bincount(shown, minlength=len(labels))[labels == one]
        assert often.max() - often.min() <= 1


@given(sizes, st.integers(0, 2**32))
def test_without_balance_each_image_comes_once(sizes, seed):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    assert sorted(draw_balanced(labels, 0.0, make_generator(seed)).tolist()) == list(range(len(labels)))


def test_an_order_is_a_function_of_its_seed():
    labels = torch.tensor([0] * 30 + [1] * 3)
    first, again, other = (draw_balanced(labels, 1.0, make_generator(seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert (labels[first] == 1).sum() == pytest.approx(16.5, abs=0.5)


@given(st.lists(st.integers(8, 40), min_size=2, max_size=4), st.floats(0, 1), st.integers(0, 2**32))
def test_tables_get_their_shares_in_every_stretch(sizes, balance, seed):
    tables = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = draw_tables(tables, balance, make_generator(seed))
    shares = torch.tensor(sizes).double() ** (1 - balance)
    share = shares / shares.sum()
    assert len(order) == len(tables)
    if not balance:
        assert sorted(order.tolist()) == list(range(len(tables)))
    for start in range(0, len(order) - 15, 16):
        shown = torch.bincount(tables[order[start : start + 16]], minlength=len(sizes))
        # Beside its share, a table has one row more or less for each boundary of it and of the others.
        assert (shown - 16 * share).abs().max() <= len(sizes)
