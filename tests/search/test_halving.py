from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from effxfer.search.halving import rounds, training_share


@given(st.integers(1, 200), st.integers(2, 10))
def test_one_is_left_and_is_trained_longest(count, eta):
    plan = rounds(count, eta)
    assert (plan[0].count, plan[-1].count, plan[-1].share) == (count, 1, 1.0)
    assert all(later.count == -(-one.count // eta) for one, later in pairwise(plan))
    assert all(abs(later.share - eta * one.share) < 1e-9 for one, later in pairwise(plan))


@given(st.integers(1, 40), st.integers(2, 5), st.floats(1, 1e4))
def test_who_takes_their_part_of_what_is_left_uses_it_up_in_proportion(count, eta, seconds):
    plan, left, taken = rounds(count, eta), seconds, []
    for number, now in enumerate(plan):
        for place in range(now.count):
            taken.append((now.share, left * training_share(plan, number, place)))
            left -= taken[-1][1]
    assert abs(left) < 1e-6 * seconds
    rates = [time / share for share, time in taken]
    assert max(rates) - min(rates) < 1e-6 * max(rates)
