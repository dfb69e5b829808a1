import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from effxfer.runtime.outputs.multi_label import UNKNOWN, MultiLabel, macro_f1, mean_average_precision

NAMES = ("beach", "dog", "sea")
OUTPUT = MultiLabel(classes=NAMES)


def drawn(seed: int, n: int, ties: bool = False):
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((n, 3)).astype(np.float32)
    labels = rng.integers(0, 2, (n, 3)).astype(np.uint8)
    labels[0], labels[1] = 1, 0  # each class applies to an example, and does not to another
    return (np.round(raw) if ties else raw), labels


@given(st.integers(0, 999), st.integers(2, 30), st.booleans())
def test_the_metrics_are_those_of_scikit_learn(seed, n, ties):
    raw, labels = drawn(seed, n, ties)
    expected = average_precision_score(labels, raw, average="macro")
    assert mean_average_precision(raw, labels) == pytest.approx(expected)
    assert OUTPUT.score(raw, labels).value == pytest.approx(100 * expected)
    applies = OUTPUT.decide(raw)
    assert macro_f1(applies, labels) == pytest.approx(f1_score(labels, applies, average="macro", zero_division=0))


def test_mean_average_precision_by_hand():
    raw, labels = np.array([[0.9], [0.8], [0.7], [0.6]], np.float32), np.array([[1], [0], [1], [0]], np.uint8)
    assert mean_average_precision(raw, labels) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_unknown_labels_do_not_count():
    raw, labels = drawn(3, 20)
    shown = labels.copy()
    shown[5:9, 0] = UNKNOWN
    rows = [i for i in range(20) if not 5 <= i < 9]
    first = mean_average_precision(raw[rows, :1], labels[rows, :1])
    others = mean_average_precision(raw[:, 1:], labels[:, 1:])
    assert mean_average_precision(raw, shown) == pytest.approx((first + 2 * others) / 3)


def test_classes_that_never_apply_do_not_count():
    raw, labels = drawn(4, 10)
    labels[:, 2] = 0
    assert mean_average_precision(raw, labels) == pytest.approx(mean_average_precision(raw[:, :2], labels[:, :2]))
    assert mean_average_precision(raw, np.zeros_like(labels)) == 0.0


def test_an_example_with_nan_ranks_last():
    raw, labels = np.array([[np.nan], [0.1]], np.float32), np.array([[1], [0]], np.uint8)
    assert mean_average_precision(raw, labels) == pytest.approx(0.5)


@given(st.integers(0, 999), st.integers(2, 30), st.booleans())
def test_no_other_threshold_has_a_better_f1_on_the_validation_examples(seed, n, ties):
    raw, labels = drawn(seed, n, ties)
    fitted = OUTPUT.fit_decision(raw, labels)
    reached = macro_f1(fitted.decide(raw), labels)
    for shift in (-0.3, 0.3):
        other = MultiLabel(classes=NAMES, thresholds=tuple(t + shift for t in fitted.thresholds))
        assert reached >= macro_f1(other.decide(raw), labels) - 1e-9
    assert reached >= macro_f1(OUTPUT.decide(raw), labels) - 1e-9


def test_a_class_without_both_kinds_of_examples_keeps_its_threshold():
    raw, labels = drawn(5, 10)
    labels[:, 1] = 1
    assert OUTPUT.fit_decision(raw, labels).thresholds[1] == 0.0


def test_equal_networks_differ_by_no_chance_and_others_by_some():
    raw, labels = drawn(6, 30)
    assert OUTPUT.drop_deviation(raw, raw, labels) == 0
    assert OUTPUT.drop_deviation(raw, -raw, labels) > 0


def test_both_metrics_are_reported_the_main_one_first():
    raw, labels = drawn(7, 10)
    assert [score.metric for score in OUTPUT.scores(raw, labels)] == ["mAP", "macro F1"]


@given(st.integers(0, 999), st.sampled_from([(), (0.25, -1.0, 3.0)]))
def test_probabilities_decide_as_logits_do_and_give_them_back(seed, thresholds):
    output, raw = MultiLabel(classes=NAMES, thresholds=thresholds), drawn(seed, 20)[0]
    answers = output.to_answers(raw)
    np.testing.assert_array_equal(output.of_answers().decide(answers), output.decide(raw))
    np.testing.assert_allclose(output.from_answers(answers), raw, atol=1e-3)


def test_probabilities_of_0_and_1_give_finite_logits():
    answers = OUTPUT.to_answers(np.array([[-500, 0, 500]], np.float32))
    assert answers.tolist() == [[0, 0.5, 1]]
    assert np.isfinite(OUTPUT.from_answers(answers)).all()
