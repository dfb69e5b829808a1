import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from torch import nn

from effxfer.deploy.export.onnx import FREE, convert
from effxfer.errors import SettingsError
from effxfer.net.heads.build import build_head, head_parameters
from effxfer.net.heads.pools import POOLS, Pool, as_maps, pool_of
from effxfer.net.heads.spec import HeadSpec, describe
from effxfer.settings import build

pools = st.one_of(
    st.builds(HeadSpec, pool=st.just("gem"), power=st.floats(1, 8), learn_power=st.booleans(), grid=st.integers(0, 4)),
    st.builds(HeadSpec, pool=st.just("attention"), queries=st.integers(1, 4), grid=st.integers(0, 4)),
    st.builds(HeadSpec, pool=st.just("bilinear"), rank=st.integers(1, 6), grid=st.integers(0, 4)),
    st.builds(HeadSpec, pool=st.sampled_from(["mean", "gem"]), join=st.just("gate"), mix=st.integers(1, 9)),
)


def layers(channels, n=4, seed=0):
    """Maps, tokens and features in turn."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n, c, 6, 5) if k % 3 == 0 else (n, 7, c) if k % 3 == 1 else (n, c) for k, c in enumerate(channels)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


@given(spec=pools, channels=st.lists(st.integers(1, 12), min_size=1, max_size=3), classes=st.integers(1, 6))
@profile(max_examples=60, deadline=None)
def test_any_pool_maps_layers_of_any_form_and_rebuilds_from_its_plain_dict(spec, channels, classes):
    head = build_head(spec, channels, classes).eval()
    xs, pool = layers(channels), pool_of(head)
    logits = head(pool(xs))
    assert pool(xs).shape == (4, pool.gives)
    assert logits.shape == (4, classes)
    again = build_head(build(HeadSpec, spec.plain(), "head"), channels, classes).eval()
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(pool_of(again)(xs)), logits)
    assert isinstance(head.out, nn.Linear)
    assert head_parameters(spec, channels, classes) == sum(p.numel() for p in head.parameters())
    assert (spec.pool if spec.pool != "mean" else "gate") in describe(spec)


@given(spec=pools, seed=st.integers(0, 500))
@profile(max_examples=40, deadline=None)
def test_folding_statistics_gives_what_standardised_layers_gave(spec, seed):
    torch.manual_seed(seed)
    channels = [5, 3]
    pool = Pool(spec, channels).eval()
    maps = [torch.randn(4, c, 5, 5) * torch.rand(c, 1, 1).add(0.2) * 3 + torch.randn(c, 1, 1) for c in channels]
    statistics = [(torch.zeros(c), torch.ones(c)) for c in channels]
    if spec.pool != "gem":
        statistics = [(m.mean((0, 2, 3)), m.std((0, 2, 3))) for m in maps]
    seen = [(m - a[:, None, None]) / b[:, None, None] for m, (a, b) in zip(maps, statistics, strict=True)]
    with torch.no_grad():
        then = pool(seen)
        scale, shift = pool.fold_(statistics)
        torch.testing.assert_close(pool(maps), then * scale + shift, rtol=1e-3, atol=1e-3)


def test_an_exponent_of_1_is_the_mean_and_a_large_one_the_maximum():
    x = torch.rand(3, 4, 5, 6)
    mean, high = (Pool(HeadSpec(pool="gem", power=p, learn_power=False), [4])([x]) for p in (1.0, 32.0))
    torch.testing.assert_close(mean, x.mean((2, 3)))
    assert ((high <= x.amax((2, 3)) + 1e-5) & (high > 0.85 * x.amax((2, 3)))).all()


def test_attention_without_scores_is_the_mean_and_with_one_large_score_that_place():
    x = torch.randn(3, 4, 5, 6)
    pool = Pool(HeadSpec(pool="attention", queries=2), [4])
    nn.init.zeros_(pool.each[0].score.weight)
    torch.testing.assert_close(pool([x]), x.mean((2, 3)).repeat(1, 2))
    with torch.no_grad():
        pool.each[0].score.weight[0, 0] = 1000.0
    best = x[:, 0].flatten(1).argmax(1)
    torch.testing.assert_close(pool([x])[:, :4], x.flatten(2)[torch.arange(3), :, best])


def test_bilinear_products_are_those_of_reduced_channels():
    x = torch.randn(2, 5, 3, 3)
    pool = Pool(HeadSpec(pool="bilinear", rank=2), [5])
    found = pool([x])
    few = pool.each[0].reduce(x).flatten(2)
    by_hand = torch.stack([(few[:, i] * few[:, j]).mean(1) for i in range(2) for j in range(2)], 1)
    torch.testing.assert_close(found[:, :5], x.mean((2, 3)))
    torch.testing.assert_close(found[:, 5:], by_hand / (by_hand.abs() + 1e-4).sqrt())


def test_a_gate_that_is_sure_of_one_layer_takes_its_expert_alone():
    x, y = torch.randn(6, 4), torch.randn(6, 3)
    pool = Pool(HeadSpec(join="gate", mix=2), [4, 3])
    with torch.no_grad():
        pool.mixture.gates[0].bias.copy_(torch.tensor([0.0, 1000.0]))
    torch.testing.assert_close(pool([x, y]), pool.mixture.experts[1](y))


@pytest.mark.parametrize(
    ("side", "grid", "left"), [(14, 7, 7), (13, 7, 13), (7, 7, 7), (6, 7, 6), (56, 7, 7), (9, 0, 9)]
)
def test_a_grid_keeps_less_than_twice_its_places_and_is_the_same_twice(side, grid, left):
    x = torch.randn(1, 2, side, side)
    once = as_maps(x, grid)
    assert once.shape[2:] == (left, left)
    assert torch.equal(as_maps(once, grid), once)


def test_every_pool_is_in_the_table_of_settings():
    assert sorted(POOLS) == sorted(HeadSpec.model_fields["pool"].annotation.__args__)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"rank": 4}, "a mean head has no rank"),
        ({"pool": "gem", "queries": 2}, "a gem head has no queries"),
        ({"mix": 8}, "a concat head has no mix"),
        ({"grid": 7}, "no grid"),
        ({"kind": "linear", "bottleneck": 3}, "a linear head has no bottleneck"),
        ({"pool": "gem", "power": 0.5}, "power"),
    ],
)
def test_a_setting_that_has_no_effect_is_refused(table, word):
    with pytest.raises(SettingsError, match=word):
        build(HeadSpec, table, "head")


class AllHeads(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, x, tokens):
        return tuple(head(pool_of(head)([x, tokens])) for head in self.heads)


def test_every_pool_exports_and_agrees_with_onnxruntime():
    import onnxruntime

    torch.manual_seed(0)
    wanted = [
        HeadSpec(pool="gem"),
        HeadSpec(pool="gem", learn_power=False, grid=2),
        HeadSpec(pool="attention", queries=2, kind="cosine"),
        HeadSpec(pool="bilinear", rank=3, kind="mlp", width=8, bottleneck=2),
        HeadSpec(pool="mean", join="gate", mix=4),
    ]
    net = AllHeads([build_head(spec, [6, 4], 3) for spec in wanted]).eval()
    outputs = [spec.pool + spec.kind + str(spec.grid) for spec in wanted]
    examples = (torch.randn(2, 6, 5, 5), torch.randn(2, 9, 4))
    graph = convert(net, examples, free={"maps": FREE, "tokens": FREE}, outputs=outputs)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    for n in (1, 3):
        xs = (torch.randn(n, 6, 5, 5), torch.randn(n, 9, 4))
        found = session.run(None, {name: x.numpy() for name, x in zip(names, xs, strict=True)})
        with torch.no_grad():
            for ours, theirs in zip(net(*xs), found, strict=True):
                np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-4, atol=1e-5)
