from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.prune.channels.knapsack import Block, Group, PricedLayer, latency, search


def line(slope):
    return lambda gone: slope * gone


def plain(inputs, outputs):
    """A clock of multiply-adds."""
    return 1e-2 * inputs * outputs


def in_eights(inputs, outputs):
    """A clock on whose vectors eight channels cost as much as one."""
    return 1e-2 * (-(-inputs // 8) * 8) * (-(-outputs // 8) * 8)


def off_path(inputs, outputs):
    """A clock that takes longer than the next wider multiple of 8 where a width is none; 3 and 10 are fixed ends."""
    off = [width for width in (inputs, outputs) if width % 8 and width not in {3, 10}]
    return in_eights(inputs, outputs) * (1.2 if off else 1.0)


def chain(widths, ms=plain, groups=None, blocks=()):
    """Layers one behind the other: the first reads 3 channels, the last writes 10."""
    names = [f"g{i}" for i in range(len(widths))]
    sizes, ends = [3, *widths, 10], [None, *names, None]
    return [
        PricedLayer(
            name=f"layer{i}", inputs=sizes[i], outputs=sizes[i + 1], ms=ms,
            reads={ends[i]: 1} if ends[i] else {}, writes={ends[i + 1]: 1} if ends[i + 1] else {},
            blocks=frozenset(name for name, first, last in blocks if first <= i <= last),
        )
        for i in range(len(sizes) - 1)
    ]  # fmt: skip


def group(name, width, slope=1.0, least=1, step=1):
    return Group(name=name, width=width, least=least, step=step, loss=line(slope))


def test_widths_are_multiples_of_the_step_and_few():
    assert group("g", 20, step=8).widths() == (20, 16, 8)
    assert group("g", 16, step=8, least=8).widths() == (16, 8)
    assert group("g", 4, step=8).widths() == (4,)
    assert len(group("g", 2048, step=4).widths()) <= 33
    assert all(width % 4 == 0 for width in group("g", 2047, step=4).widths()[1:])


def test_nothing_goes_where_the_target_holds_already():
    layers = chain([16, 16])
    found = search([group("g0", 16), group("g1", 16)], [], layers, latency(layers, {"g0": 0, "g1": 0}))
    assert found.removed == {"g0": 0, "g1": 0}
    assert (found.reached, found.loss) == (True, 0.0)


def test_what_costs_no_loss_goes_first():
    found = search([group("g0", 16, 0.0), group("g1", 16, 9.0)], [], chain([16, 16]), 2.6)
    assert found.reached
    assert found.removed["g1"] == 0


def test_by_hand():
    """0.48 + 2.56 + 1.6 ms; without 8 channels of g0 0.24 + 1.28 + 1.6 = 3.12, of g1 0.48 + 1.28 + 0.8 = 2.56."""
    groups, layers = [group("g0", 16, step=8), group("g1", 16, 1.5, step=8)], chain([16, 16])
    found = search(groups, [], layers, 3.12)
    assert (found.removed, found.loss) == ({"g0": 8, "g1": 0}, 8.0)
    assert found.ms == pytest.approx(3.12)
    assert search(groups, [], layers, 2.57).removed == {"g0": 0, "g1": 8}


def test_a_stair_is_jumped():
    found = search([group("g0", 32)], [], chain([32], in_eights), latency(chain([32], in_eights), {"g0": 8}))
    assert found.removed == {"g0": 8}


def test_a_block_leaves_where_that_is_the_better_deal():
    layers = chain([16, 16, 16], blocks=[("block", 1, 2)])
    groups = [group("g0", 16, 1.0), group("g1", 16, 1.0), group("g2", 16, 1.0)]
    whole = latency(layers, {g.name: 0 for g in groups})
    cheap = search(groups, [Block(name="block", loss=0.5, inside=frozenset({"g1"}))], layers, 0.4 * whole)
    assert cheap.dropped == {"block"}
    assert cheap.removed["g1"] == 0
    dear = search(groups, [Block(name="block", loss=500.0, inside=frozenset({"g1"}))], layers, 0.4 * whole)
    assert not dear.dropped
    assert cheap.loss < dear.loss


def test_two_blocks_that_stand_in_for_each_other_do_not_both_leave():
    """Each alone costs nothing, both together 9; the third costs 1 whatever else leaves."""
    layers = chain([16] * 5, blocks=[("a", 1, 1), ("b", 2, 2), ("c", 3, 3)])
    groups = [group(f"g{number}", 16, 1000.0, least=16) for number in range(5)]
    whole = latency(layers, {g.name: 0 for g in groups})

    def blocks(extra):
        pairs = {"a": {"b": extra}, "b": {"a": extra}}
        return [Block(name=n, loss=loss, pairs=pairs.get(n, {})) for n, loss in (("a", 0.0), ("b", 0.0), ("c", 1.0))]

    two = whole - sum(layer.ms(16, 16) for layer in layers if layer.blocks) * 2 / 3
    assert search(groups, blocks(0.0), layers, two).dropped == {"a", "b"}
    apart = search(groups, blocks(9.0), layers, two)
    assert apart.dropped in ({"a", "c"}, {"b", "c"})
    assert apart.loss == 1.0
    assert search(groups, blocks(-5.0), layers, two).loss == 0.0, "never below nothing"


def test_what_cannot_be_met_is_said_and_the_fastest_given():
    layers = chain([16, 16])
    found = search([group("g0", 16, least=8), group("g1", 16, least=8)], [], layers, 0.01)
    assert not found.reached
    assert found.removed == {"g0": 8, "g1": 8}
    assert found.ms == pytest.approx(latency(layers, found.removed))


curves = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(lambda steps: [sum(steps[:i]) for i in range(5)])


@st.composite
def problems(draw):
    """Two or three groups of four widths each, a block, any monotone clock and any rising losses."""
    count = draw(st.integers(2, 3))
    table = {w: sum(draw(st.lists(st.floats(0.01, 1), min_size=w, max_size=w))) for w in range(5)}
    clock = draw(st.sampled_from(["product", "stairs", "any"]))
    ms = {
        "product": lambda a, b: 0.1 * a * b,
        "stairs": lambda a, b: 0.1 * (-(-a // 2) * 2) * (-(-b // 2) * 2),
        "any": lambda a, b: table[min(a, 4)] * table[min(b, 4)],
    }[clock]
    blocks = [Block(name="block", loss=draw(st.floats(0, 3)), inside=frozenset({"g1"}))][: draw(st.integers(0, 1))]
    layers = chain([4] * count, ms, blocks=[(b.name, 1, 2) for b in blocks])
    groups = []
    for i in range(count):
        curve = draw(curves)
        groups.append(Group(name=f"g{i}", width=4, least=draw(st.integers(1, 4)), loss=curve.__getitem__))
    share = draw(st.floats(0.05, 1.0))
    return groups, blocks, layers, share * latency(layers, {g.name: 0 for g in groups})


def every(groups, blocks, layers):
    """All configurations, as (milliseconds, loss)."""
    ranges = [range(g.width - g.least + 1) for g in groups]
    for counts in product(*ranges):
        gone = {g.name: n for g, n in zip(groups, counts, strict=True)}
        for dropped in [frozenset(), *(frozenset({b.name}) for b in blocks)]:
            idle = frozenset().union(*(b.inside for b in blocks if b.name in dropped))
            loss = sum(g.loss(gone[g.name]) for g in groups if g.name not in idle)
            yield latency(layers, gone, dropped), loss + sum(b.loss for b in blocks if b.name in dropped)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_meets_the_target_or_says_that_nothing_does_and_is_near_the_best(problem):
    groups, blocks, layers, target = problem
    found = search(groups, blocks, layers, target)
    assert all(0 <= found.removed[g.name] <= g.width - g.least for g in groups)
    assert found.ms == pytest.approx(latency(layers, found.removed, found.dropped))
    assert found.reached == (found.ms <= target)
    losses = [loss for ms, loss in every(groups, blocks, layers) if ms <= target]
    assert found.reached == bool(losses)
    if losses:
        dearest = max([g.loss(g.width - g.least) for g in groups] + [b.loss for b in blocks])
        assert min(losses) - 1e-9 <= found.loss <= min(losses) + dearest + 1e-9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4).map(lambda n: 8 * n), min_size=1, max_size=4), st.floats(0.1, 0.95), st.data())
def test_never_leaves_the_fast_path(widths, share, data):
    groups = [group(f"g{i}", w, data.draw(st.floats(0.01, 5))) for i, w in enumerate(widths)]
    layers = chain(widths, off_path)
    target = share * latency(layers, {g.name: 0 for g in groups})
    found = search(groups, [], layers, target)
    assert found.reached == (target >= latency(layers, {g.name: g.width - 8 for g in groups}))
    assert all(count % 8 == 0 for count in found.removed.values()) or not found.reached
