from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from effxfer.deploy.int8.mixed_precision import Measured, Search

BORDER = 0.02


def cost(chosen, gains, border=BORDER):
    """A ratio: what int8 saves in each block, and a conversion at each border between int8 and float32."""
    borders = sum((i in chosen) != (i + 1 in chosen) for i in range(-1, len(gains)))
    return max(1 - sum(gains[i] for i in chosen) + border * borders, 0.01)


def search(gains, errors=(), allowed=1.0, spread=0.001, border=BORDER):
    errors = errors or [0.0] * len(gains)
    seen = []

    def measure(choices):
        seen.extend(choices)
        return {
            c: Measured(ratio=cost(c, gains, border), spread=spread, error=sum(errors[i] for i in c)) for c in choices
        }

    found = Search(count=len(gains), measure=measure, fits=lambda c: sum(errors[i] for i in c) <= allowed)
    return found, found.run(), seen


def test_all_in_int8_stays_where_every_block_gains():
    _, chosen, _ = search([0.1] * 5)
    assert chosen == frozenset(range(5))


def test_blocks_that_lose_time_stay_in_float():
    _, chosen, _ = search([0.2, 0.2, -0.1, -0.1, 0.2])
    assert chosen == {0, 1, 4}


def test_from_float_the_blocks_that_gain_are_found():
    found, chosen, seen = search([-0.3, -0.3, 0.2, 0.2, -0.3])
    assert found.known[frozenset(range(5))].ratio > 1
    assert chosen == {2, 3}
    assert frozenset({2}) in seen


def test_neighbours_that_gain_only_together_are_found():
    found, chosen, seen = search([-0.2, -0.2, 0.05, 0.05, 0.05, -0.2], border=0.04)
    assert all(found.known[frozenset({i})].ratio > 1 for i in range(6))
    assert chosen == {2, 3, 4}
    assert len(set(seen)) < 2**5


def test_neighbours_are_found_where_all_in_int8_is_vetoed():
    found, chosen, _ = search([0.05, 0.05, 0.05, float("-inf")], border=0.06)
    assert found.known[frozenset(range(4))].ratio == float("inf")
    assert chosen == {0, 1, 2}


def test_nothing_ships_where_nothing_gains():
    found, chosen, seen = search([-0.1, -0.2, -0.05])
    assert chosen is None
    assert seen.count(frozenset({0, 1, 2})) <= 2
    assert seen.count(frozenset({1})) == 1, "blocks are not timed anew where no stretch gains"
    assert found.why == "no block was faster in int8 than in float32"


def test_the_block_with_the_largest_error_for_its_time_goes_back():
    _, chosen, _ = search([0.1, 0.1, 0.1, 0.3], errors=[0.1, 0.9, 0.1, 0.9], allowed=1.2, border=0.0)
    assert chosen == {0, 2, 3}


def test_accuracy_that_costs_all_the_gain_is_refused():
    found, chosen, _ = search([0.3, -0.01, -0.01], errors=[0.9, 0, 0], allowed=0.5, border=0.0)
    assert chosen is None
    assert found.why


@given(
    st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=6),
    st.lists(st.floats(0, 0.5), min_size=6, max_size=6),
    st.floats(0, 1),
)
def test_what_ships_is_faster_and_accurate_whatever_the_figures(gains, errors, allowed):
    found, chosen, _ = search(gains, errors[: len(gains)], allowed)
    if chosen is None:
        assert found.why
    else:
        assert cost(chosen, gains) < 1
        assert sum(errors[i] for i in chosen) <= allowed


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=8), st.floats(0, 0.1))
def test_something_ships_wherever_neighbours_gain_together(gains, border):
    _, chosen, _ = search(gains, border=border, spread=0.0)
    stretches = [frozenset(range(a, b)) for a, b in combinations(range(len(gains) + 1), 2)]
    best = min(cost(stretch, gains, border) for stretch in stretches)
    assert best > 1 - 0.005 - 1e-9 or cost(chosen, gains, border) < 1


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=5))
def test_without_borders_the_best_choice_is_found(gains):
    _, chosen, _ = search(gains, border=0.0, spread=0.0)
    every = [frozenset(c) for k in range(1, len(gains) + 1) for c in combinations(range(len(gains)), k)]
    best = min(cost(c, gains, 0.0) for c in every)
    assert (cost(chosen, gains, 0.0) if chosen else 1.0) <= min(best, 1.0) + 0.005 * len(gains) + 1e-9
