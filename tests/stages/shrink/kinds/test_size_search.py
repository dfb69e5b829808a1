"""Sizes are found in few measurements, and never beyond the limit."""

from hypothesis import given
from hypothesis import strategies as st

from effxfer.stages.shrink.kinds.size_search import MOST_MEASUREMENTS, fit_size

SIDES = tuple(range(8, 225, 4))


def search(power, limit, sizes=SIDES, expected=2.0):
    tried = []

    def latency(size):
        tried.append(size)
        return (size / 224) ** power

    return fit_size(sizes, latency, limit, start=(224, 1.0), power=expected), tried


@given(st.floats(0.5, 3.0), st.floats(0.001, 0.99))
def test_what_it_returns_was_measured_to_be_within_the_limit(power, limit):
    size, tried = search(power, limit)
    assert len(tried) <= MOST_MEASUREMENTS + 1
    if size is None:
        assert (SIDES[0] / 224) ** power > limit
    else:
        assert size in tried
        assert (size / 224) ** power <= limit


@given(st.floats(1.0, 3.0), st.floats(0.1, 0.9))
def test_it_is_near_the_limit(power, limit):
    size, _ = search(power, limit)
    larger = SIDES[SIDES.index(size) + 1]
    assert (size / 224) ** power >= 0.95 * limit or (larger / 224) ** power > limit


def test_a_law_that_is_known_takes_one_measurement():
    size, tried = search(2.0, 0.5)
    assert len(tried) <= 2
    assert size == max(side for side in SIDES if (side / 224) ** 2 <= 0.5)


def test_noise_ends_with_a_size_within_the_limit():
    readings = iter([0.52, 0.45, 0.51, 0.55, 0.30, 0.2, 0.2])
    assert fit_size(SIDES, lambda _size: next(readings), 0.5, start=(224, 1.0), power=2.0) is not None
