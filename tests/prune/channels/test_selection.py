import torch
from hypothesis import given
from hypothesis import strategies as st

from effxfer.prune.channels.selection import ScoredChannels, choose_channels, give_back_channels

SCOPES = st.sampled_from(["layer", "global"])


def layer(scores, name="a", copies=1, initial=None):
    return ScoredChannels(layer=name, scores=torch.tensor(scores), initial=initial or len(scores), copies=copies)


@st.composite
def layers(draw):
    widths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    make = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return [
        ScoredChannels(layer=f"l{i}", scores=torch.rand(w, generator=make), initial=w) for i, w in enumerate(widths)
    ]


def test_by_hand():
    plan = choose_channels([layer([3.0, 1.0, 2.0, 4.0])], ratio=0.5, scope="layer", round_to=1, max_ratio=0.9)
    assert plan == {"a": [1, 2]}


def test_global_ranks_all_layers_together():
    both = [layer([1.0, 2.0, 3.0, 4.0], "weak"), layer([5.0, 6.0, 7.0, 8.0], "strong")]
    assert choose_channels(both, ratio=0.25, scope="global", round_to=1, max_ratio=0.9) == {"weak": [0, 1]}


def test_the_most_a_layer_may_lose_moves_the_rest_elsewhere():
    both = [layer([1.0, 2.0, 3.0, 4.0], "weak"), layer([5.0, 6.0, 7.0, 8.0], "strong")]
    plan = choose_channels(both, ratio=0.5, scope="global", round_to=1, max_ratio=0.5)
    assert plan == {"weak": [0, 1], "strong": [0, 1]}


def test_copies_round_together():
    plan = choose_channels(
        [layer([float(i) for i in range(6)], copies=4)], ratio=0.5, scope="layer", round_to=8, max_ratio=0.9
    )
    assert plan == {"a": [0, 1]}  # 4 positions in 4 groups are 16 outputs; 3 would be 12


def test_ratio_counts_from_the_first_step():
    plan = choose_channels([layer([1.0, 2.0, 3.0], initial=4)], ratio=0.5, scope="layer", round_to=1, max_ratio=0.9)
    assert plan == {"a": [0]}


def test_equal_scores_fall_to_the_earlier_channel():
    assert choose_channels([layer([1.0] * 4)], ratio=0.5, scope="layer", round_to=1, max_ratio=0.9) == {"a": [0, 1]}


@given(layers(), SCOPES, st.floats(0, 1), st.sampled_from([1, 4, 8]), st.floats(0.1, 0.95))
def test_what_remains_is_rounded_and_never_too_little(found, scope, ratio, round_to, max_ratio):
    plan = choose_channels(found, ratio=ratio, scope=scope, round_to=round_to, max_ratio=max_ratio)
    for one in found:
        width, gone = len(one.scores), plan.get(one.layer, [])
        left = width - len(gone)
        assert len(set(gone)) == len(gone)
        assert left >= 1
        assert len(gone) <= max_ratio * width + 1e-6
        assert not gone or left % round_to == 0


@given(layers(), SCOPES, st.floats(0, 1), st.floats(0, 1), st.sampled_from([1, 8]))
def test_a_larger_ratio_removes_a_superset(found, scope, one, other, round_to):
    low, high = sorted((one, other))
    less = choose_channels(found, ratio=low, scope=scope, round_to=round_to, max_ratio=0.9)
    more = choose_channels(found, ratio=high, scope=scope, round_to=round_to, max_ratio=0.9)
    assert all(set(gone) <= set(more[name]) for name, gone in less.items())


@given(layers(), st.floats(0, 0.5))
def test_global_removes_exactly_the_share(found, ratio):
    plan = choose_channels(found, ratio=ratio, scope="global", round_to=1, max_ratio=1.0)
    total = sum(len(c.scores) for c in found)
    assert sum(map(len, plan.values())) == min(total - round(total * (1 - ratio)), total - len(found))


def test_the_best_of_what_goes_comes_back_to_the_next_multiple():
    one = layer([3.0, 1.0, 2.0, 6.0, 5.0, 4.0, 8.0, 7.0])
    plan = {"a": [0, 1, 2, 4, 5], "b": [0]}
    assert give_back_channels(plan, one, 4) == {"a": [0, 1, 2, 5], "b": [0]}
    assert give_back_channels({"a": [0, 1, 2, 5]}, one, 4) == {}
    assert give_back_channels({"b": [0]}, one, 4) == {"b": [0]}


@given(layers(), st.floats(0, 1), st.sampled_from([1, 4, 8]))
def test_what_comes_back_leaves_a_smaller_plan_of_the_weakest(found, ratio, round_to):
    plan = choose_channels(found, ratio=ratio, scope="global", round_to=round_to, max_ratio=0.9)
    for one in found:
        wider = give_back_channels(plan, one, round_to)
        gone, before = wider.get(one.layer, []), plan.get(one.layer, [])
        assert len(gone) < len(before) or gone == before == []
        assert gone == sorted(one.scores.argsort(stable=True)[: len(gone)].tolist())
        assert {**wider, one.layer: before} == {**plan, one.layer: before}
