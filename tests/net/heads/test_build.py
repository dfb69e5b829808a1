import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from torch import nn

from effxfer.errors import SettingsError
from effxfer.net.heads.build import build_head, fold_standardize, head_parameters
from effxfer.net.heads.spec import HeadSpec, describe
from effxfer.net.heads.standardize import Standardize
from effxfer.settings import build

common = {"dropout": st.floats(0, 0.9), "standardize": st.booleans()}
specs = st.one_of(
    st.builds(HeadSpec, kind=st.just("linear"), **common),
    st.builds(HeadSpec, kind=st.just("cosine"), scale=st.floats(0.1, 100), learn_scale=st.booleans(), **common),
    st.builds(
        HeadSpec,
        kind=st.just("prototypes"),
        distance=st.sampled_from(["euclidean", "cosine", "relation"]),
        transform=st.sampled_from(["none", "l2", "cl2n"]),
    ),
    st.builds(
        HeadSpec,
        kind=st.just("mlp"),
        width=st.integers(1, 40),
        depth=st.integers(1, 3),
        activation=st.sampled_from(["relu", "gelu", "hardswish"]),
        norm=st.sampled_from(["none", "batch", "layer"]),
        **common,
    ),
)


@given(spec=specs, features=st.integers(1, 30), classes=st.integers(1, 12))
@profile(max_examples=60, deadline=None)
def test_any_spec_builds_maps_and_rebuilds_from_its_plain_dict(spec, features, classes):
    head = build_head(spec, features, classes)
    x = torch.randn(4, features)
    assert head(x).shape == (4, classes)
    again = build_head(build(HeadSpec, spec.plain(), "head"), features, classes)
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again.eval()(x), head.eval()(x), rtol=0, atol=0)
    assert isinstance(head.out, nn.Linear)
    assert head.out.out_features == classes
    assert head_parameters(spec, features, classes) == sum(p.numel() for p in head.parameters())
    assert describe(spec).startswith(spec.kind)


@given(spec=specs, seed=st.integers(0, 1000))
@profile(max_examples=40, deadline=None)
def test_folding_the_standardisation_keeps_the_outputs(spec, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(50, 9, generator=generator) * torch.rand(9, generator=generator).add(0.1) * 5 + 3
    head = build_head(spec, 9, 4).eval()
    if spec.standardize:
        head.standardize.fit_(x.mean(0), x.std(0))
    folded, state = fold_standardize(spec, head.state_dict())
    assert folded.standardize == (spec.standardize and spec.kind == "cosine")
    other = build_head(folded, 9, 4).eval()
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), head(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"kind": "linear", "width": 64}, "a linear head has no width"),
        ({"kind": "cosine", "depth": 2, "norm": "batch"}, "no depth or norm"),
        ({"kind": "mlp", "learn_scale": False}, "a mlp head has no learn_scale"),
        ({"kind": "mlp", "depth": 4}, "depth"),
        ({"kind": "mlp", "dropout": 1.0}, "dropout"),
        ({"kind": "mlp", "activaton": "relu"}, "did you mean 'activation'"),
        ({"kind": "quadratic"}, "kind"),
    ],
)
def test_a_setting_that_is_wrong_or_has_no_effect_is_refused(table, word):
    with pytest.raises(SettingsError, match=word):
        build(HeadSpec, table, "head")


def test_parameters_are_counted_by_hand():
    assert head_parameters(HeadSpec(kind="linear"), 10, 3) == 10 * 3 + 3
    assert head_parameters(HeadSpec(kind="cosine"), 10, 3) == 10 * 3 + 1
    assert head_parameters(HeadSpec(kind="cosine", learn_scale=False), 10, 3) == 10 * 3
    mlp = HeadSpec(kind="mlp", width=5, depth=2, norm="layer")
    assert head_parameters(mlp, 10, 3) == (10 * 5 + 5 + 10) + (5 * 5 + 5 + 10) + (5 * 3 + 3)


def test_cosine_logits_are_scaled_cosines_whatever_the_lengths():
    head = build_head(HeadSpec(kind="cosine", scale=7.0), 6, 4).eval()
    x = torch.randn(5, 6)
    with torch.no_grad():
        logits = head(x)
        expected = 7 * nn.functional.cosine_similarity(x[:, None], head.out.weight[None], dim=2)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(head(x * 100), logits)
        head.out.weight.mul_(3)
        torch.testing.assert_close(head(x), logits)


def test_the_cosine_scale_learns_only_if_asked():
    assert "scale" in dict(build_head(HeadSpec(kind="cosine"), 3, 2).named_parameters())
    fixed = build_head(HeadSpec(kind="cosine", learn_scale=False), 3, 2)
    assert "scale" not in dict(fixed.named_parameters())
    assert "scale" in fixed.state_dict()


def test_standardize_uses_what_is_stored_also_in_training_and_spares_constant_features():
    layer = Standardize(3).train()
    x = torch.randn(100, 3) * torch.tensor([1e-3, 2e-3, 0.0]) + 5
    layer.fit_(x.mean(0), x.std(0, correction=0))
    y = layer(x)
    torch.testing.assert_close(y[:, :2].std(0, correction=0), torch.ones(2), rtol=1e-2, atol=0)
    assert y[:, 2].abs().max() < 1e-4
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    layer(x * 9)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


class AllHeads(nn.Module):
    def __init__(self, found):
        super().__init__()
        self.heads = nn.ModuleList(found)

    def forward(self, x):
        return tuple(head(x) for head in self.heads)


def test_every_kind_exports_and_agrees_with_onnxruntime(tmp_path):
    import onnxruntime

    wanted = [
        HeadSpec(kind="linear", dropout=0.2, standardize=True),
        HeadSpec(kind="cosine", dropout=0.2, standardize=True),
        HeadSpec(kind="cosine", learn_scale=False),
        HeadSpec(kind="mlp", width=16, depth=1, activation="relu", norm="batch", standardize=True),
        HeadSpec(kind="mlp", width=16, depth=2, activation="gelu", norm="layer", dropout=0.1),
        HeadSpec(kind="mlp", width=16, depth=3, activation="hardswish", norm="none"),
    ]
    torch.manual_seed(0)
    heads = [build_head(spec, 12, 5) for spec in wanted]
    for head in heads:
        head(torch.randn(64, 12))
        if hasattr(head, "standardize") and isinstance(head.standardize, Standardize):
            head.standardize.fit_(torch.randn(12), torch.rand(12) + 0.5)
    net = AllHeads(heads).eval()
    file = tmp_path / "heads.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        net, (torch.randn(2, 12),), file, dynamo=True, external_data=False, dynamic_shapes=({0: batch},), verbose=False
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for n in (1, 2, 7):
        x = torch.randn(n, 12)
        with torch.no_grad():
            expected = net(x)
        got = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        for mine, theirs in zip(expected, got, strict=True):
            np.testing.assert_allclose(theirs, mine.numpy(), rtol=1e-4, atol=1e-5)
