from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.select import keep_strongest, kernel_counts, select

SCOPES = ["erk", "global", "layer"]
SHARES = st.floats(0, 1, exclude_max=True)
SHAPES = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=5)


@st.composite
def layers(draw):
    """Shapes of layers, scores with many ties and of either sign, and what survived so far."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = {f"layer{i}": shape for i, shape in enumerate(draw(SHAPES))}
    scores = {n: torch.randint(-3, 4, s, generator=rng) / 2 for n, s in shapes.items()}
    lost = draw(st.sampled_from([0.0, 0.0, 0.5, 0.9]))
    return scores, Mask({n: torch.rand(s, generator=rng) >= lost for n, s in shapes.items()})


def counts(mask):
    return {name: int(keep.sum()) for name, keep in mask.keep.items()}


def asked(mask, share):
    """A sparsity between what is gone and what one weight per layer leaves; None where that is one too many."""
    left, total = mask.counts
    least = sum(bool(keep.any()) for keep in mask.keep.values())
    sparsity = mask.sparsity + share * ((total - least) / total - mask.sparsity)
    fits = left and sparsity < 1 and total - left <= round(sparsity * total) <= total - least
    return sparsity if fits else None


@settings(deadline=None, max_examples=100)
@given(layers(), SHARES, st.sampled_from(SCOPES))
def test_keeps_exactly_as_many_a_subset_and_something_of_every_layer(made, share, scope):
    scores, mask = made
    sparsity = asked(mask, share)
    if sparsity is None:
        return
    chosen = select(scores, mask, sparsity=sparsity, scope=scope)
    assert all(bool((chosen.keep[n] <= keep).all()) for n, keep in mask.keep.items())
    assert all(bool(chosen.keep[n].any()) == bool(keep.any()) for n, keep in mask.keep.items())
    total, left, found = mask.counts[1], counts(mask), counts(chosen)
    if scope == "layer":
        sizes = {n: keep.numel() for n, keep in mask.keep.items()}
        assert found == {n: min(left[n], max(size - round(sparsity * size), 1)) for n, size in sizes.items()}
    else:
        assert sum(found.values()) == total - round(sparsity * total)


@settings(deadline=None, max_examples=100)
@given(layers(), SHARES, SHARES, st.sampled_from(SCOPES))
def test_more_sparsity_keeps_a_subset_in_one_step_or_two(made, one, other, scope):
    scores, mask = made
    low, high = (asked(mask, share) for share in sorted((one, other)))
    if low is None or high is None:
        return
    first, last = (select(scores, mask, sparsity=s, scope=scope) for s in (low, high))
    assert all(bool((last.keep[n] <= keep).all()) for n, keep in first.keep.items())
    if scope != "layer":
        again = select(scores, first, sparsity=high, scope=scope)
        assert all(torch.equal(again.keep[n], keep) for n, keep in last.keep.items())


@settings(deadline=None, max_examples=100)
@given(layers(), SHARES, st.sampled_from(SCOPES))
def test_nothing_that_goes_scores_higher_than_what_stays(made, share, scope):
    scores, mask = made
    sparsity = asked(mask, share)
    if sparsity is None:
        return
    chosen = select(scores, mask, sparsity=sparsity, scope=scope).keep
    groups = [list(scores)] if scope == "global" else [[name] for name in scores]
    for group in groups:
        gone = torch.cat([scores[n][mask.keep[n] & ~chosen[n]] for n in group])
        several = [n for n in group if scope != "global" or int(chosen[n].sum()) > 1]
        stays = [scores[n][chosen[n]] for n in several if bool(chosen[n].any())]
        if len(gone) and stays:
            assert gone.max() <= torch.cat(stays).max()
            rest = torch.cat([s.sort().values[: max(len(s) - 1, 0)] for s in stays])
            assert not len(rest) or gone.max() <= rest.min()


@settings(deadline=None, max_examples=100)
@given(SHAPES, SHARES)
def test_kernel_densities_are_those_of_the_paper(shapes, share):
    """Some scale makes every layer's density min(1, scale * sides / product), to a weight."""
    mask = Mask({f"layer{i}": torch.ones(shape, dtype=torch.bool) for i, shape in enumerate(shapes)})
    total = mask.counts[1]
    kept = len(shapes) + round(share * (total - len(shapes)))
    found = kernel_counts(mask, kept)
    assert sum(found.values()) == kept
    low, high = 0.0, float("inf")
    for name, keep in mask.keep.items():
        sides, size = sum(keep.shape), keep.numel()
        low = max(low, (found[name] - 1 + 1e-9) / sides if found[name] > 1 else 0.0)
        high = min(high, (found[name] + 1) / sides if found[name] < size else high)
    assert low <= high


def test_kernel_densities_by_hand():
    shapes = {"stem": (8, 3, 3, 3), "body": (32, 32, 3, 3), "top": (10, 32)}
    mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    assert kernel_counts(mask, 129) == {"stem": 17, "body": 70, "top": 42}
    assert kernel_counts(mask, 2000) == {"stem": 216, "body": 1464, "top": 320}, "the small ones are full"


def test_kernel_counts_never_rise_when_fewer_are_kept():
    mask = Mask({f"l{i}": torch.ones(shape, dtype=torch.bool) for i, shape in enumerate([(5, 3), (7,), (4, 4, 3)])})
    every = [kernel_counts(mask, kept) for kept in range(3, mask.counts[1] + 1)]
    assert all(fewer[n] <= more[n] for fewer, more in pairwise(every) for n in mask.keep)


def test_by_hand():
    scores = {"a": torch.tensor([3.0, -1.0, 2.0, 0.0]), "b": torch.tensor([[5.0, 1.0]])}
    full = Mask({name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()})
    chosen = select(scores, full, sparsity=0.5).keep
    assert chosen["a"].tolist() == [True, False, True, False]
    assert chosen["b"].tolist() == [[True, False]]


def test_of_equal_scores_the_earlier_goes_first():
    scores = {"a": torch.ones(6)}
    chosen = select(scores, Mask({"a": torch.ones(6, dtype=torch.bool)}), sparsity=0.5).keep["a"]
    assert chosen.tolist() == [True, False, False, False, True, True], "but the first of the best never goes"
    assert keep_strongest(torch.ones(4), 1).tolist() == [False, False, False, True]
    assert keep_strongest(torch.ones(4), 0).tolist() == [False] * 4


def test_no_layer_loses_its_last_weight():
    scores = {"weak": torch.rand(50) * 1e-6, "strong": torch.rand(950)}
    full = Mask({name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()})
    chosen = select(scores, full, sparsity=0.99)
    assert chosen.keep["weak"].nonzero().tolist() == [[int(scores["weak"].argmax())]]
    assert chosen.counts[0] == 10


@pytest.mark.parametrize("scope", SCOPES)
def test_a_layer_that_lost_more_than_asked_gets_nothing_back(scope):
    mask = Mask({"a": torch.arange(100) < 10, "b": torch.ones(100, dtype=torch.bool)})
    scores = {"a": torch.rand(100), "b": torch.rand(100)}
    chosen = select(scores, mask, sparsity=0.5, scope=scope)
    assert bool((chosen.keep["a"] <= mask.keep["a"]).all())


@pytest.mark.parametrize("scope", SCOPES)
def test_sparsity_that_must_collapse_a_layer_is_refused(scope):
    scores = {"a": torch.rand(100), "b": torch.rand(100)}
    full = Mask({name: torch.ones(100, dtype=torch.bool) for name in scores})
    with pytest.raises(SettingsError, match="leaves 1 of 200 weights to 2 layers"):
        select(scores, full, sparsity=0.995, scope=scope)


@pytest.mark.parametrize("sparsity", [-0.1, 0.2, 1.0, float("nan")])
def test_out_of_range_is_refused(sparsity):
    mask = Mask({"a": torch.arange(100) < 50})
    with pytest.raises(SettingsError, match=r"sparsity must be in \[0.5"):
        select({"a": torch.rand(100)}, mask, sparsity=sparsity)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_unless_it_is_gone(value):
    scores = torch.rand(10)
    scores[0] = value
    mask = Mask({"a": torch.arange(10) > 0})
    assert not select({"a": scores}, mask, sparsity=0.5).keep["a"][0]
    with pytest.raises(ModelFileError, match="scores of a"):
        select({"a": scores}, Mask({"a": torch.ones(10, dtype=torch.bool)}), sparsity=0.5)
