import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.data.decoded.joined_array import JoinedArray
from effxfer.data.task import Split, stack_splits


def images(count, seed=0, side=4):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=4), draw=st.data())
def test_it_selects_what_one_array_would(counts, draw):
    parts = [images(count, seed) for seed, count in enumerate(counts)]
    whole, joined = np.concatenate(parts), JoinedArray(parts)
    assert (joined.shape, joined.dtype, len(joined), joined.nbytes) == (
        whole.shape, whole.dtype, len(whole), whole.nbytes
    )  # fmt: skip
    start, stop = draw.draw(st.tuples(st.integers(-8, 8), st.integers(-8, 30)))
    assert np.array_equal(joined[start:stop], whole[start:stop])
    mask = np.array(draw.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole))), np.bool_)
    assert np.array_equal(joined[mask], whole[mask])
    if len(whole):
        rows = np.array(draw.draw(st.lists(st.integers(-len(whole), len(whole) - 1), max_size=9)), np.int64)
        assert np.array_equal(joined[rows], whole[rows])
        assert np.array_equal(JoinedArray([joined, parts[0]])[rows], np.concatenate([whole, parts[0]])[rows])
    with pytest.raises(IndexError):
        joined[np.array([len(whole)])]


def test_images_to_crop_from_are_joined_without_a_copy():
    splits = [
        Split(rows=images(200, seed), labels=np.zeros(200, np.int64), names=[""] * 200, canvas=images(200, seed, 32),
              aspect=np.ones(200, np.float32))
        for seed in (0, 1)
    ]  # fmt: skip
    tracemalloc.start()
    joined = stack_splits(splits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(joined.canvas[:], np.concatenate([split.canvas for split in splits]))
    assert peak < splits[0].canvas.nbytes / 2 < joined.canvas.nbytes
    assert stack_splits(splits[:1]).canvas is splits[0].canvas
