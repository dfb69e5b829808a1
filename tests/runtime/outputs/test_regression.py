import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from effxfer.runtime.outputs.regression import Regression, r_squared

OUTPUT = Regression(classes=("width", "weight"), mean=(10.0, -2.0), deviation=(4.0, 0.5))


def drawn(seed: int, n: int):
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((n, 2)).astype(np.float32)
    return raw, (OUTPUT.values(raw) + rng.standard_normal((n, 2)) * [2, 0.1]).astype(np.float32)


@given(st.integers(0, 999), st.integers(2, 30))
def test_r_squared_is_that_of_scikit_learn(seed, n):
    raw, labels = drawn(seed, n)
    expected = np.maximum(-1, r2_score(labels, OUTPUT.values(raw), multioutput="raw_values"))
    np.testing.assert_allclose(r_squared(OUTPUT.values(raw), labels), expected, atol=1e-9)
    assert OUTPUT.score(raw, labels).value == pytest.approx(100 * expected.mean())


def test_values_are_in_the_unit_of_the_labels():
    np.testing.assert_allclose(OUTPUT.values(np.array([[0, 2], [-1, 0]], np.float32)), [[10, -1], [6, -2]])


def test_the_mean_absolute_error_is_in_that_unit_too():
    raw, labels = np.zeros((2, 2), np.float32), np.array([[11, -2], [7, np.nan]], np.float32)
    main, width, weight = OUTPUT.scores(raw, labels)
    assert (width.metric, width.value, width.unit) == ("mean absolute error width", 2.0, "")
    assert (weight.metric, weight.value, main.metric) == ("mean absolute error weight", 0.0, "R2")


def test_one_value_needs_no_name_in_the_report():
    one = Regression(classes=("age",), mean=(0.0,), deviation=(1.0,))
    assert [s.metric for s in one.scores(np.ones((2, 1), np.float32), np.ones((2, 1)))] == ["R2", "mean absolute error"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_has_the_worst_score(bad):
    raw, labels = drawn(1, 5)
    raw[2, 0] = bad
    assert r_squared(OUTPUT.values(raw), labels)[0] == -1


def test_a_value_that_never_varies_is_met_or_missed():
    assert r_squared(np.full((3, 1), 2.0), np.full((3, 1), 2.0)) == [1]
    assert r_squared(np.full((3, 1), 2.5), np.full((3, 1), 2.0)) == [-1]


def test_two_networks_agree_within_two_percent_of_the_deviation():
    raw = np.zeros((1, 2), np.float32)
    assert (OUTPUT.decide(raw) == OUTPUT.decide(raw + 0.009)).all()
    assert (OUTPUT.decide(raw) != OUTPUT.decide(raw + 0.03)).all()


def test_answers_are_values_and_give_the_outputs_back():
    raw, _ = drawn(0, 20)
    answers = OUTPUT.to_answers(raw)
    np.testing.assert_allclose(OUTPUT.from_answers(answers), raw, atol=1e-6)
    np.testing.assert_array_equal(OUTPUT.of_answers().values(answers.astype(np.float32)), answers.astype(np.float32))
    np.testing.assert_array_equal(Regression(classes=("a", "b")).values(raw), raw)
