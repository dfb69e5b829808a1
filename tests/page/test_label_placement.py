from hypothesis import given
from hypothesis import strategies as st

from effxfer.page.label_placement import SIDES, Box, place_labels

POINTS = st.lists(st.tuples(st.floats(1, 100), st.floats(0, 100)), min_size=1, max_size=12)


@given(POINTS, st.booleans())
def test_every_marker_gets_a_side_or_none(points, log):
    places = place_labels(points, ["model"] * len(points), [20.0] * len(points), log=log)
    assert len(places) == len(points)
    assert set(places) <= {*SIDES, ""}


def test_a_lone_marker_has_its_name_above():
    assert place_labels([(5.0, 90.0)], ["dense"], [20.0], log=False) == ["top center"]


def test_neighbours_take_different_sides():
    points = [(10.0, 90.0), (10.0, 89.0), (5.0, 50.0)]
    first, second, _ = place_labels(points, ["dense", "ticket", "small"], [20.0] * 3, log=False)
    assert first != second


def test_names_that_fit_nowhere_are_dropped():
    places = place_labels([(10.0, 90.0)] * 20, ["a long name of a model"] * 20, [20.0] * 20, log=False)
    assert "" in places
    assert places[0]


def test_shared_area():
    box = Box(0, 0, 10, 10)
    assert box.overlap(Box(5, 5, 20, 20)) == 25
    assert box.overlap(Box(10, 0, 20, 10)) == 0
    assert Box(-5, 0, 5, 10).outside_area == 50
