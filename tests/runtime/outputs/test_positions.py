import numpy as np

from effxfer.runtime.outputs.positions import bootstrap_counts, select_texts
from effxfer.runtime.outputs.tagging import TagLabels


def test_whole_texts_are_selected():
    labels = TagLabels(np.array([0, 0, 1, 2, 2, 2, 3]), np.zeros((7, 1), np.int64))
    assert select_texts(labels, 2).tolist() == [0, 1, 6]
    assert select_texts(labels, 9).tolist() == list(range(7))
    assert select_texts(np.zeros(10), 3).tolist() == [0, 4, 9]


def test_the_bootstrap_always_draws_the_same():
    before, after = np.full((30, 3), 2.0), np.tile([1.0, 2.0, 2.0], (30, 1))
    after[::2, 0] = 2
    assert bootstrap_counts(before, after) == bootstrap_counts(before, after) > 0
    assert bootstrap_counts(before, before) == 0
