from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from effxfer.search.halving import rounds, successive_halving, training_share


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


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40, unique=True), st.integers(2, 5))
def test_the_best_of_every_round_wins_and_no_round_is_larger_than_planned(scores, eta):
    plan, trained = rounds(len(scores), eta), [[] for _ in rounds(len(scores), eta)]
    winner = successive_halving(
        scores, plan, train=lambda score, number, _place: trained[number].append(score),
        rank=lambda remaining: sorted(remaining, reverse=True),
    )  # fmt: skip
    assert winner == max(scores)
    assert [len(part) for part in trained] == [*(part.count for part in plan[:-1]), 0]
    assert all(set(later) <= set(part) for part, later in pairwise(trained))


def test_late_candidates_are_dropped_and_the_first_one_always_runs():
    seconds, trained = [0.0], []

    def train(score, number, place):
        trained.append((score, number, place))
        seconds[0] += 10.0

    winner = successive_halving(
        [1, 2, 3, 4], rounds(4, 2), train=train, rank=lambda remaining: sorted(remaining, reverse=True),
        spent=lambda: seconds[0], seconds=12.0,
    )  # fmt: skip
    assert winner == 1
    assert trained == [(1, 0, 0)]
