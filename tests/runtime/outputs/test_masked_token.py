import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.outputs.masked_token import MaskedToken

OUTPUT = MaskedToken(vocabulary=5)


def drawn(seed: int, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    return (scale * rng.standard_normal((30, 5))).astype(np.float32), rng.integers(0, 5, 30)


def test_accuracy_and_perplexity_by_hand():
    raw = np.log(np.array([[0.5, 0.25, 0.125, 0.0625, 0.0625]] * 2, np.float32))
    accuracy, perplexity = OUTPUT.scores(raw, np.array([0, 2]))
    assert (accuracy.metric, accuracy.value, accuracy.n, accuracy.of) == ("accuracy", 50.0, 2, "masked tokens")
    assert (perplexity.metric, perplexity.unit) == ("perplexity", "")
    assert perplexity.value == pytest.approx(4.0)  # the geometric mean of 1 / 0.5 and 1 / 0.125


def test_a_network_that_knows_nothing_has_the_vocabulary_as_perplexity():
    raw, labels = np.zeros((7, 5), np.float32), np.arange(7) % 5
    assert OUTPUT.scores(raw, labels)[1].value == pytest.approx(5)


@given(st.integers(0, 999), st.sampled_from([1.0, 100.0, 1e4]))
def test_losses_are_the_logarithms_of_probabilities_and_finite_for_any_logits(seed, scale):
    raw, labels = drawn(seed, scale)
    losses = OUTPUT.losses(raw, labels)
    assert np.isfinite(losses).all()
    assert (losses >= 0).all()
    if scale == 1:
        assert losses == pytest.approx(-np.log(OUTPUT.to_answers(raw)[np.arange(30), labels]), rel=1e-4)


@given(st.integers(0, 999), st.integers(1, 29))
def test_places_measured_in_parts_score_as_together(seed, cut):
    raw, labels = drawn(seed)
    parts = [(raw[:cut], labels[:cut]), (raw[cut:], labels[cut:])]
    correct = np.concatenate([OUTPUT.correct(*part) for part in parts])
    losses = np.concatenate([OUTPUT.losses(*part) for part in parts])
    assert OUTPUT.summarize(correct, losses) == OUTPUT.scores(raw, labels)


def test_networks_that_are_right_at_the_same_places_differ_by_no_chance():
    raw, labels = drawn(0)
    assert OUTPUT.drop_deviation(raw, raw, labels) == 0
    assert OUTPUT.drop_deviation(raw, -raw, labels) > 0


def test_a_place_with_nan_counts_as_wrong():
    raw = np.array([[9, 0, 0, 0, np.nan]], np.float32)
    assert OUTPUT.score(raw, np.array([0])).value == 0


def test_its_columns_are_tokens_without_names():
    assert (OUTPUT.width, OUTPUT.classes, OUTPUT.to_json()) == (5, (), {"kind": "masked", "vocabulary": 5})
