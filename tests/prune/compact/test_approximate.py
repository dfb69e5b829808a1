from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.prune.compact.approximate import moments, rank_units, relative_change
from effxfer.prune.compact.compact import compact
from effxfer.prune.graph.groups import units_in
from effxfer.prune.graph.transaction import copy_for_tracing
from effxfer.prune.network import example_of
from tests.prune.dead import dead_mask, outspoken
from tests.prune.nets import make

PADDED = ("tests.prune.nets_compact:Plain", 12, ("out",), None, {"padding": 1})


def images(seed=3, size=12):
    return [torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(seed))]


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 5), st.sampled_from([0.01, 0.1, 0.4]))
def test_stays_within_the_allowed_error(seed, max_error):
    torch.manual_seed(seed)
    net = outspoken(make(*PADDED))
    before = deepcopy(net)
    report = compact(net, max_error=max_error, calibration=images()).report
    change = relative_change(before, net, images())
    assert change <= max_error + 1e-5
    assert report["error"].value == pytest.approx(100 * change, abs=1e-3)


def test_a_larger_error_lets_more_leave():
    torch.manual_seed(0)
    net = outspoken(make(*PADDED))
    sizes = []
    for max_error in (0.0, 0.003, 0.1):
        trial = deepcopy(net)
        compact(trial, max_error=max_error, calibration=images())
        sizes.append(parameters(trial))
    assert sizes[0] == parameters(net)
    assert sizes[0] >= sizes[1] > sizes[2]


def test_constants_that_padding_keeps_leave_first():
    torch.manual_seed(0)
    net = outspoken(make(*PADDED))
    dead_mask(net, only=["body.conv1"], share=0.5).store_(net)
    strict, loose = deepcopy(net), deepcopy(net)
    compact(strict)
    assert compact(loose, max_error=0.2, calibration=images()).report["sparsity/real"].value == 100
    assert loose.body.conv1.out_channels < strict.body.conv1.out_channels


def test_the_cheapest_unit_is_the_one_that_varies_least():
    net = make(*PADDED)
    with torch.no_grad():
        net.body.bn1.weight[5] = 1e-4
    units = units_in(copy_for_tracing(net), example_of(net)).units
    seen = moments(net.requires_grad_(False), {name for one in units for name in one.reads}, images())
    order = rank_units(net, units, seen)
    assert next(unit for layer, unit in order if layer == "body.conv1") == 5
    for one in units:
        assert sum(layer == one.layer for layer, _ in order) == one.count - 1, "the dearest one stays"


def test_moments_are_those_of_all_images():
    net = make(*PADDED).requires_grad_(False)
    batches = images() + images(seed=4)
    seen = moments(net, ["body.conv1"], batches)["body.conv1"]
    every = torch.cat(batches).movedim(1, -1).reshape(-1, 3).double()
    torch.testing.assert_close(seen.mean, every.mean(0))
    torch.testing.assert_close(seen.variance, every.var(0, correction=0))
