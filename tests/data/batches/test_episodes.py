import numpy as np
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from effxfer.data.batches.batches import make_generator
from effxfer.data.batches.episodes import Episodes


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), size=st.integers(1, 8), seed=st.integers(0, 99))
@profile(max_examples=60, deadline=None)
def test_examples_are_different_ones_of_their_class(labels, size, seed):
    labels = np.array(labels)
    episodes = Episodes(labels, size)
    large = [label for label in range(6) if (labels == label).sum() >= size]
    assert len(episodes) == len(large)
    if large:
        drawn = episodes.draw(torch.arange(len(large)), make_generator(seed))
        assert drawn.shape == (len(large), size)
        assert [set(labels[row].tolist()) for row in drawn.numpy()] == [{label} for label in large]
        assert all(len(set(row.tolist())) == size for row in drawn)
        assert torch.equal(drawn, episodes.draw(torch.arange(len(large)), make_generator(seed)))
