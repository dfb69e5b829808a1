from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from effxfer.prune.low_rank.ranks import RankOption, choose_ranks, option

# Sixteenths, whose sums are exact: rounding must not make one cost of two.
SIXTEENTHS = st.integers(1, 15).map(lambda number: number / 16)
LAYER = st.lists(st.tuples(SIXTEENTHS, st.floats(0, 0.9)), max_size=4)


def options(layer):
    return [RankOption(rank=None, cost=1.0, loss=0.0), *(option(k + 1, *pair) for k, pair in enumerate(layer))]


def total(chosen, layers, field):
    picked = [next(o for o in each if o.rank == chosen.get(name)) for name, each in layers.items()]
    return sum(getattr(o, field) for o in picked)


@given(st.lists(LAYER, min_size=1, max_size=3), st.floats(0.2, 3.0))
def test_it_is_within_the_cost_and_loses_little_more_than_the_best(drawn, cost):
    layers = {str(number): options(each) for number, each in enumerate(drawn)}
    chosen = choose_ranks(layers, cost)
    everything = [
        {name: o.rank for name, o in zip(layers, picked, strict=True)} for picked in product(*layers.values())
    ]
    within = [each for each in everything if total(each, layers, "cost") <= cost]
    if within:
        assert total(chosen, layers, "cost") <= cost
    # A greedy solution of a knapsack is the best one at its own cost, among those on the hull.
    same_cost = [each for each in everything if total(each, layers, "cost") <= total(chosen, layers, "cost")]
    assert total(chosen, layers, "loss") <= min(total(each, layers, "loss") for each in same_cost) + 1e-9


def test_a_layer_that_loses_much_keeps_its_rank():
    layers = {"easy": options([(0.5, 0.01)]), "hard": options([(0.5, 0.6)])}
    assert choose_ranks(layers, 1.6) == {"easy": 1}
    assert choose_ranks(layers, 1.0) == {"easy": 1, "hard": 1}
    assert choose_ranks(layers, 2.0) == {}


def test_what_is_out_of_reach_takes_the_cheapest():
    assert choose_ranks({"a": options([(0.5, 0.1), (0.3, 0.9)])}, 0.1) == {"a": 2}
