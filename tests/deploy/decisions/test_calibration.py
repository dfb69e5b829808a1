import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.deploy.decisions.calibration import BINS, calibration_error, reliability


def test_by_hand():
    """Four decisions at 90 %, three of them right; two at 60 %, both right: (4 x 15 + 2 x 40) / 6."""
    confidence = np.array([0.9] * 4 + [0.6] * 2, np.float32)
    bins = reliability(confidence, np.array([True, True, True, False, True, True]))
    assert [round(each.confidence) for each in bins] == [60, 90]
    assert [each.accuracy for each in bins] == [100, 75]
    assert calibration_error(bins) == pytest.approx((4 * 15 + 2 * 40) / 6, abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=50))
def test_every_decision_is_in_one_bin(decisions):
    confidence, correct = (np.array(each) for each in zip(*decisions, strict=True))
    bins = reliability(confidence.astype(np.float32), correct)
    assert sum(each.size for each in bins) == len(decisions)
    assert len(bins) <= BINS
    assert 0 <= calibration_error(bins) <= 100
