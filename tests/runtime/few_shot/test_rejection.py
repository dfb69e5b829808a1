import numpy as np
import pytest

from effxfer.runtime.few_shot.rejection import ENTRY, Rejection, nearness, read_rejection

POINTS = np.array([[0, 0], [3, 4]], np.float32)


def test_nearness_is_minus_the_distance_or_the_cosine():
    assert nearness(POINTS, POINTS, "euclidean").tolist() == [[0, -5], [-5, 0]]
    cosines = nearness(np.array([[1, 0], [0, 2], [-3, 0]], np.float32), np.array([[5, 0]], np.float32), "cosine")
    assert cosines.ravel().tolist() == [1, 0, -1]


def test_each_class_has_the_threshold_of_its_number_of_images():
    rejection = Rejection("euclidean", {1: -2.0, 5: -1.0})
    assert [rejection.threshold(shots) for shots in (1, 4, 5, 50)] == [-2, -2, -1, -1]
    features = np.array([[0, 1.5], [3, 5.5], [30, 0]], np.float32)
    assert rejection.accepts(features, POINTS, (1, 5)).tolist() == [True, False, False]


def test_it_is_read_as_it_was_written():
    rejection = Rejection("cosine", {1: 0.25})
    assert read_rejection({ENTRY: rejection.to_json()}) == rejection


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"distance": "l1", "thresholds": {"1": 2}}', '{"distance": "cosine", "thresholds": {}}',
             '{"distance": "cosine", "thresholds": {"1": NaN}}', '{"distance": "cosine", "thresholds": {"a": 1}}']
)  # fmt: skip
def test_what_is_not_understood_rejects_nothing(text):
    assert read_rejection({ENTRY: text}) is None
    assert read_rejection({}) is None
