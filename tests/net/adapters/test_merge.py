"""What the adapters that only change weights promise: at first nothing, and merged what they were unmerged."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from effxfer.net.adapters.lora import LowRank, low_rank_size
from effxfer.net.adapters.scaling import Scale, Shift
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.merge import adapter_parameters, adapters, base_name, base_state, merge_
from effxfer.prune.weights.mask import Mask
from tests.net.nets import inputs, made

quick = profile(max_examples=25, deadline=None)
CONV = "body.stage2.0.conv1"
CHANGES = {
    "lora": {"weights": ["body.stem.0.weight", f"{CONV}.weight"], "rank": 3, "alpha": 5.0},
    "ssf": {"layers": ["body.stem.1", "body.stage3.2.bn2"]},
    "ia3": {"outputs": {f"{CONV}.weight": 5, "body.stem.1.weight": 0}, "inputs": ["body.stage3.0.conv2.weight"]},
}


@st.composite
def convolutions(draw):
    """Any plain, strided, dilated, grouped or depthwise convolution, and a map for it."""
    groups = draw(st.integers(1, 4))
    per, out = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    depthwise = draw(st.booleans())
    inputs, outputs = (groups, groups * out) if depthwise else (groups * per, groups * out)
    told = {"stride": draw(st.integers(1, 3)), "dilation": draw(st.integers(1, 2)), "bias": draw(st.booleans())}
    padding = draw(st.integers(0, 2))
    torch.manual_seed(draw(st.integers(0, 99)))
    conv = nn.Conv2d(inputs, outputs, draw(st.integers(1, 3)), padding=padding, groups=groups, **told)
    return conv, torch.randn(2, inputs, 9, 8)


@quick
@given(convolutions(), st.integers(1, 6), st.floats(0.1, 20))
def test_a_low_rank_change_of_any_convolution_merges(pair, rank, alpha):
    conv, x = pair
    with torch.no_grad():
        before = conv(x)
        change = LowRank(conv.weight, rank, alpha, conv.groups)
        assert sum(p.numel() for p in change.parameters()) == low_rank_size(conv.weight, rank, conv.groups)
        parametrize.register_parametrization(conv, "weight", change, unsafe=True)
        assert torch.equal(conv(x), before), "at first it changes nothing"
        change.up.normal_()
        apart = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                          conv.dilation, conv.groups, bias=False)  # fmt: skip
        blocks = [alpha / rank * up @ down for up, down in zip(change.up, change.down, strict=True)]
        apart.weight.copy_(torch.cat(blocks).view_as(apart.weight))
        unmerged = conv(x)
        torch.testing.assert_close(unmerged, before + apart(x), rtol=1e-4, atol=1e-3)
        parametrize.remove_parametrizations(conv, "weight", leave_parametrized=True)
        assert torch.equal(conv(x), unmerged)


@quick
@given(convolutions(), st.integers(0, 1), st.integers(0, 99))
def test_scaling_weights_is_scaling_what_comes_out_or_goes_in(pair, axis, seed):
    conv, x = pair
    torch.manual_seed(seed)
    if axis == 1 and conv.groups > 1:
        return
    with torch.no_grad():
        scale = Scale(conv.weight, axis=axis)
        assert torch.equal(scale(conv.weight), conv.weight)
        scale.factor.uniform_(0.2, 3)
        if axis:
            expected = conv(x * scale.factor.view(1, -1, 1, 1))
            conv.weight.copy_(scale(conv.weight))
        else:
            expected = conv(x) * scale.factor.view(1, -1, 1, 1)
            conv.weight.copy_(scale(conv.weight))
            if conv.bias is not None:
                conv.bias.copy_(scale(conv.bias))
        torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_a_scale_leaves_the_first_slices_alone():
    scale = Scale(torch.ones(5, 2), start=3)
    with torch.no_grad():
        scale.factor.copy_(torch.tensor([2.0, 3.0]))
    assert scale(torch.ones(5, 2))[:, 0].tolist() == [1, 1, 1, 2, 3]
    assert scale(torch.ones(5)).tolist() == [1, 1, 1, 2, 3]


def test_a_scale_and_a_shift_on_batch_norm_are_those_of_its_output():
    torch.manual_seed(0)
    norm, x = nn.BatchNorm2d(4).eval(), torch.randn(2, 4, 3, 3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.running_mean)
    before, scale, shift = norm(x), Scale(norm.weight), Shift(norm.bias)
    with torch.no_grad():
        scale.factor.normal_()
        shift.added.normal_()
    for leaf, change in (("weight", scale), ("bias", scale), ("bias", shift)):
        parametrize.register_parametrization(norm, leaf, change, unsafe=True)
    expected = before * scale.factor.view(1, -1, 1, 1) + shift.added.view(1, -1, 1, 1)
    torch.testing.assert_close(norm(x), expected)


def changed(kind, net=None):
    """A network with an adapter that has learnt something."""
    net = net or made()
    apply_edit(net, kind, **CHANGES[kind])
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapter_parameters(net):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_it_starts_at_nothing_rebuilds_copies_and_merges(kind):
    plain = made()
    with torch.no_grad():
        before = plain(inputs())
        untouched = made()
        apply_edit(untouched, kind, **CHANGES[kind])
        assert torch.equal(untouched(inputs()), before)
        net = changed(kind)
        unmerged = net(inputs())
        assert not torch.allclose(unmerged, before)
        again = rebuild(net.backbone, net.edits, net.input, net.classes)
        again.load_state_dict(net.state_dict())
        assert torch.equal(again.eval()(inputs()), unmerged)
        copied = deepcopy(net)
    assert base_state(net).keys() == base_state(plain).keys()
    assert all(torch.equal(tensor, base_state(plain)[name]) for name, tensor in base_state(net).items())
    assert [edit["kind"] for edit in adapters(net)] == [kind]
    assert merge_(net)
    assert not merge_(net)
    with torch.no_grad():
        assert torch.equal(net(inputs()), unmerged)
        assert torch.equal(copied(inputs()), unmerged), "a copy is not merged by merging the other"
    assert net.edits == plain.edits
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert {type(m) for m in net.modules()} == {type(m) for m in plain.modules()}
    assert adapter_parameters(net) == []


def test_a_factor_of_weight_and_bias_is_one_parameter():
    net = changed("ssf")
    assert sum(p.numel() for p in adapter_parameters(net)) == 2 * (8 + 32)


def test_what_a_ticket_removed_gets_no_change():
    net = made()
    name = f"{CONV}.weight"
    Mask({n: torch.rand(keep.shape) > 0.6 for n, keep in Mask.full(net).keep.items()}).store_(net)
    net.apply_masks_()
    changed("lora", net)
    keep = net.masks()[name]
    weight = net.get_submodule(CONV).weight
    assert bool((weight[~keep] == 0).all())
    assert bool((weight[keep] != net.raw_weight(name)[keep]).any())
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.get_submodule(CONV).weight, weight), "masks that are loaded later count"
    with torch.no_grad():
        net.raw_weight(name).fill_(1)
    net.apply_masks_()
    assert bool((net.raw_weight(name)[~keep] == 0).all())


def test_names_without_adapters():
    assert base_name("body.a.parametrizations.weight.original") == "body.a.weight"
    assert base_name("body.a.parametrizations.weight.0.up") == "body.a.parametrizations.weight.0.up"
    assert base_name("body.a.weight") == "body.a.weight"
