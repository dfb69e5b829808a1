"""Wrong labels are found, and right ones are left alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from effxfer.transferability.suspects import suspects

DIGITS = load_digits()


def mislabelled(share, seed=0):
    """The digits with a share of labels moved to another class; which ones are wrong."""
    rng = np.random.default_rng(seed)
    labels = DIGITS.target.astype(np.int64)
    wrong = rng.random(len(labels)) < share
    return np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels), wrong


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_wrong_labels_are_found(share):
    labels, wrong = mislabelled(share)
    found = suspects(DIGITS.data, labels)
    rows = [one.row for one in found]
    assert wrong[rows].sum() >= 0.7 * wrong.sum()
    assert wrong[rows[: wrong.sum() // 2]].mean() > 0.9
    right = [one.looks_like == DIGITS.target[one.row] for one in found if wrong[one.row]]
    assert np.mean(right) > 0.9


def test_right_labels_are_left_alone():
    assert len(suspects(DIGITS.data, mislabelled(0.0)[0])) < 0.03 * len(DIGITS.target)


@pytest.mark.parametrize("classes", [2, 5])
def test_features_that_tell_nothing_accuse_nobody(classes):
    rng = np.random.default_rng(0)
    assert len(suspects(rng.standard_normal((300, 4)), rng.integers(0, classes, 300))) < 3


def test_two_classes_and_a_class_of_one_image_do():
    data, labels = DIGITS.data[DIGITS.target < 2], DIGITS.target[DIGITS.target < 2].astype(np.int64)
    labels[5] = 1 - labels[5]
    assert suspects(data, labels)[0].row == 5
    labels[7] = 2
    assert 5 in [one.row for one in suspects(data, labels)]


@settings(max_examples=20)
@given(st.permutations(range(4)))
def test_names_of_classes_do_not_matter(names):
    some = np.flatnonzero(DIGITS.target < 4)[:160]
    data, labels, names = DIGITS.data[some], DIGITS.target[some].astype(np.int64), np.array(names)
    labels[::20] = (labels[::20] + 1) % 4
    plain, renamed = (suspects(data, one) for one in (labels, names[labels]))
    assert plain[0].row in {one.row for one in renamed}
    assert all(one.times >= other.times >= 4 for one, other in pairwise(renamed))
