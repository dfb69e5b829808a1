import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from effxfer.runtime.outputs.single_label import SINGLE_LABEL, SingleLabel, macro_f1, recalls

classes = st.integers(2, 5)


@st.composite
def predictions(draw):
    count, n = draw(classes), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return rng.standard_normal((n, count)).astype(np.float32), rng.integers(0, count, n)


def test_accuracy_by_hand():
    logits = np.array([[2.0, 1, 0], [0, 1, 2], [0, 3, 1], [5, 0, 0]], np.float32)
    score = SINGLE_LABEL.score(logits, np.array([0, 2, 2, 0]))
    assert (score.metric, score.value, score.n, score.of) == ("accuracy", 75.0, 4, "images")


def test_an_example_with_nan_counts_as_wrong():
    logits = np.array([[2, 1], [2, np.nan], [np.nan, np.nan]], np.float32)
    assert SINGLE_LABEL.score(logits, np.array([0, 1, 0])).value == pytest.approx(100 / 3)


@given(predictions())
def test_every_metric_is_that_of_scikit_learn(drawn):
    logits, labels = drawn
    predicted = SINGLE_LABEL.decide(logits)
    assert SINGLE_LABEL.score(logits, labels).value == pytest.approx(100 * np.mean(predicted == labels))
    recall = recall_score(labels, predicted, labels=np.unique(labels), average="macro")
    assert recalls(predicted, labels).mean() == pytest.approx(recall)
    assert macro_f1(predicted, labels) == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))


def test_the_balanced_accuracy_is_reported_where_a_class_has_twice_the_examples():
    logits = np.eye(2, dtype=np.float32)[[0, 0, 0, 0]]
    assert [s.metric for s in SINGLE_LABEL.scores(logits, np.array([0, 0, 1, 1]))] == ["accuracy"]
    accuracy, balanced = SINGLE_LABEL.scores(logits, np.array([0, 0, 0, 1]))
    assert (accuracy.value, balanced.value, balanced.metric) == (75.0, 50.0, "balanced accuracy")


@given(predictions())
def test_networks_that_are_right_on_the_same_examples_differ_by_no_chance(drawn):
    logits, labels = drawn
    assert SINGLE_LABEL.drop_deviation(logits, logits, labels) == 0
    flipped = logits.copy()
    flipped[0] = -flipped[0]
    differs = SINGLE_LABEL.correct(flipped, labels)[0] != SINGLE_LABEL.correct(logits, labels)[0]
    assert SINGLE_LABEL.drop_deviation(logits, flipped, labels) == pytest.approx(100 * differs / len(labels))


def test_its_width_and_values_are_those_of_the_classes():
    output = SingleLabel(classes=("cat", "dog"))
    assert output.width == 2
    assert output.to_json() == {"kind": "single", "classes": ["cat", "dog"]}


def test_probabilities_decide_as_logits_do():
    raw = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    output = SingleLabel(classes=("a", "b", "c", "d"))
    answers = output.to_answers(raw)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(output.of_answers().decide(answers), output.decide(raw))
    np.testing.assert_array_equal(output.decide(output.from_answers(answers)), output.decide(raw))
