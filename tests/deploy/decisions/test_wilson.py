import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.deploy.decisions.wilson import wilson


@given(st.integers(1, 1000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_share_is_within_its_interval(shares):
    hits, count = shares
    low, high = wilson(hits, count)
    assert 0 <= low <= 100 * hits / count + 1e-9
    assert 100 * hits / count - 1e-9 <= high <= 100
    assert low < high


def test_as_published():
    """Newcombe (1998), table I: 81 of 263 are 25.53 to 36.62 %."""
    assert wilson(81, 263) == pytest.approx((25.53, 36.62), abs=0.005)
