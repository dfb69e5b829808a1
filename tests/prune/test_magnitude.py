import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.magnitude import magnitude
from effxfer.prune.mask import Mask
from tests.prune.nets import make

SHARES = st.floats(0, 0.99)


@settings(deadline=None, max_examples=25)
@given(SHARES, st.sampled_from(["global", "layer"]))
def test_removes_exactly_what_was_asked(sparsity, scope):
    net = make()
    full = Mask.full(net)
    mask = magnitude(net, full, sparsity=sparsity, scope=scope)
    kept, total = mask.counts
    sizes = [k.numel() for k in full.keep.values()]
    expected = round(sparsity * total) if scope == "global" else sum(round(sparsity * size) for size in sizes)
    assert total - kept == expected


@settings(deadline=None, max_examples=25)
@given(SHARES, SHARES, st.sampled_from(["global", "layer"]))
def test_never_revives(one, other, scope):
    net = make()
    low, high = sorted((one, other))
    first = magnitude(net, Mask.full(net), sparsity=low, scope=scope)
    with torch.no_grad():
        for name in first.keep:
            net.get_parameter(name).copy_(torch.randn_like(net.get_parameter(name)))
    second = magnitude(net, first, sparsity=max(high, first.sparsity), scope=scope)
    assert all((second.keep[n] <= first.keep[n]).all() for n in first.keep)


def test_removes_the_smallest_of_all():
    net = make()
    mask = magnitude(net, Mask.full(net), sparsity=0.3)
    sizes = {n: net.get_parameter(n).detach().abs() for n in mask.keep}
    largest_removed = max(float(s[~mask.keep[n]].max()) for n, s in sizes.items() if not mask.keep[n].all())
    assert largest_removed <= min(float(s[mask.keep[n]].min()) for n, s in sizes.items())


def test_by_hand():
    net = make()
    with torch.no_grad():
        net.body.conv1.weight.copy_(torch.arange(216.0).view(8, 3, 3, 3) - 100)
    mask = magnitude(net, Mask.full(net, ["*conv2"]), sparsity=3 / 216)
    removed = (~mask.keep["body.conv1.weight"]).flatten().nonzero().flatten().tolist()
    assert removed == [99, 100, 101]


def test_ties_fall_to_the_earlier_weight():
    net = make()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
    mask = magnitude(net, Mask.full(net, ["*conv2"]), sparsity=0.5)
    kept = mask.keep["body.conv1.weight"].flatten()
    assert kept[109:].all()
    assert int(kept[:109].sum()) == 1  # the layer's first largest weight never goes


def test_no_layer_loses_its_last_weight():
    net = make()
    with torch.no_grad():
        net.body.conv1.weight.mul_(1e-6)
    mask = magnitude(net, Mask.full(net), sparsity=0.99)
    strongest = int(net.body.conv1.weight.detach().abs().argmax())
    assert mask.keep["body.conv1.weight"].flatten().nonzero().tolist() == [[strongest]]
    assert mask.counts[0] == mask.counts[1] - round(0.99 * mask.counts[1])


def test_sparsity_that_must_collapse_a_layer_is_refused():
    net = make()
    with pytest.raises(SettingsError, match="leaves 1 of 1368 weights to 2 layers"):
        magnitude(net, Mask.full(net), sparsity=0.9993)


@pytest.mark.parametrize("sparsity", [-0.1, 0.2, 1.0, float("nan")])
def test_out_of_range_is_refused(sparsity):
    net = make()
    mask = magnitude(net, Mask.full(net), sparsity=0.5)
    with pytest.raises(SettingsError, match=r"sparsity must be in \[0.5"):
        magnitude(net, mask, sparsity=sparsity)


def test_not_a_number_is_refused():
    net = make()
    with torch.no_grad():
        net.body.conv2.weight[0] = torch.nan
    with pytest.raises(ModelFileError, match="conv2"):
        magnitude(net, Mask.full(net), sparsity=0.5)
