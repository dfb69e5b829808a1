"""Probabilities from logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.softmax import sigmoid, softmax


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8))
def test_softmax_is_a_distribution_in_the_order_of_the_logits(row):
    logits = np.array([row], np.float32)
    shares = softmax(logits)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert (shares >= 0).all()
    assert shares[0, logits[0].argmax()] == shares.max()


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8))
def test_sigmoid_is_a_probability_without_overflow(row):
    shares = sigmoid(np.array([row], np.float32))
    assert shares.dtype == np.float32
    assert ((shares >= 0) & (shares <= 1)).all()
    np.testing.assert_allclose(shares + sigmoid(-np.array([row], np.float32)), 1, atol=1e-6)
