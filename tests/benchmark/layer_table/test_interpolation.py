import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.benchmark.layer_table.interpolation import (
    bilinear,
    fast_step,
    off_grid_factors,
    sample_widths,
    width_class,
)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_an_axis_holds_the_ends_and_eights_between(widths):
    found = sample_widths(widths)
    assert found == sorted(set(found))
    assert found[-1] == max(widths)
    assert {width for width in widths if width < 8} <= set(found)
    assert all(width % 8 == 0 or width < 8 or width == max(widths) for width in found)
    assert len([width for width in found if width >= 8]) <= 9


def test_a_narrow_axis_goes_down_to_one():
    assert sample_widths([8], narrow=True) == [1, 2, 4, 8]


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_product_is_interpolated_exactly(x, y):
    xs = ys = [1, 8, 40, 100]
    points = {(a, b): 2.0 + 0.5 * a + 0.1 * b + 0.03 * a * b for a in xs for b in ys}
    assert bilinear(points, xs, ys, x, y) == pytest.approx(2.0 + 0.5 * x + 0.1 * y + 0.03 * x * y)


def test_below_the_smallest_width_its_time_holds():
    assert bilinear({(8, 8): 3.0, (16, 8): 5.0}, [8, 16], [8], 2, 4) == 3.0


def test_what_was_not_measured_is_not_made_up():
    with pytest.raises(KeyError):
        bilinear({(8, 8): 3.0}, [8, 16], [8], 12, 8)


def test_widths_fall_into_classes():
    assert [width_class(width) for width in (64, 60, 62, 57)] == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ("slow", "step"), [({4: 1.0, 2: 1.0, 1: 1.0}, 1), ({4: 1.0, 2: 2.0, 1: 1.0}, 4), ({4: 2.0, 2: 1.0, 1: 1.0}, 8)]
)
def test_the_step_is_the_smallest_with_only_fast_multiples(slow, step):
    times = {64: 10.0, 72: 12.0, 68: 11.0 * slow[4], 66: 10.5 * slow[2], 65: 10.25 * slow[1]}
    assert off_grid_factors(times, 64) == pytest.approx(slow)
    assert fast_step([off_grid_factors(times, 64)]) == step
    assert fast_step([off_grid_factors(times, 64), {4: 9.0, 2: 9.0, 1: 9.0}]) == 8
