"""The Pareto front against its definition."""

from hypothesis import given
from hypothesis import strategies as st

from effxfer.pareto import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30)


def beats(a, b):
    return a != b and a[0] <= b[0] and a[1] >= b[1]


@given(POINTS)
def test_the_front_is_exactly_what_no_point_beats(points):
    front = pareto_front(points)
    assert set(front) == {i for i, p in enumerate(points) if not any(beats(q, p) for q in points)}
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


@given(POINTS)
def test_without_ties_only_the_first_of_equal_points_is_on_the_front(points):
    unique = [i for i in pareto_front(points) if points[i] not in points[:i]]
    assert pareto_front(points, ties=False) == unique
