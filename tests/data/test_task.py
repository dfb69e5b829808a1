import numpy as np
import pytest

from effxfer.data.task import Split, sample_evenly


def split_of(labels):
    labels = np.asarray(labels)
    rows = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, -1)
    return Split(rows=rows, labels=labels, names=[f"{number}.png" for number in range(len(labels))])


def test_each_class_has_its_share_in_the_order_of_the_split():
    split = split_of([0, 1, 2] * 20 + [2] * 60)
    chosen = sample_evenly(split, 12, seed=0)
    assert np.bincount(chosen.labels).tolist() == [2, 2, 8]
    numbers = [int(name.partition(".")[0]) for name in chosen.names]
    assert numbers == sorted(numbers) == chosen.rows[:, 0, 0, 0].tolist()


def test_the_seed_decides():
    split = split_of([0, 1] * 50)
    names = [list(sample_evenly(split, 10, seed=seed).names) for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("labels", [[0, 1, 1], np.eye(3), np.ones((3, 1))])
def test_no_more_than_there_are(labels):
    assert len(sample_evenly(split_of(labels), 10, seed=0)) == 3


def test_of_several_labels_any_rows_are_chosen():
    chosen = sample_evenly(split_of(np.eye(40)), 7, seed=0)
    assert chosen.labels.shape == (7, 40)
