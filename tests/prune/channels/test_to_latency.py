import json
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from effxfer.errors import GateError, SettingsError
from effxfer.net.layers import trace
from effxfer.prune.channels import latency_loop
from effxfer.prune.channels.latency_loop import LatencyTarget, PairedTiming
from effxfer.prune.channels.to_latency import modelled_ms, prune_to_latency
from effxfer.prune.network import example_of
from effxfer.prune.weights.mask import Mask
from effxfer.train.state import clone
from tests.prune.channels.test_remove import ROOT, half_masked, save
from tests.prune.nets import make, stripes

RESNET = "effxfer.net.cifar:ResNet"


def resnet():
    """Six residual blocks, four of which keep the shape of their input."""
    return make(RESNET, 16, args={"blocks": 2, "width": 16})


def cost(site, inputs, outputs):
    """A clock of multiply-adds, in eights, with a price for every layer."""
    if not inputs or not outputs:
        return 0.0
    width = inputs if site.kind == "depthwise" else (-(-inputs // 8) * 8) * outputs / site.groups
    return 1e-3 + 1e-8 * site.out[0] * site.out[1] * site.kernel[0] * site.kernel[1] * width


def loss(net):
    images, labels = stripes(8, size=net.input.size)
    with torch.no_grad():
        return float(F.cross_entropy(net(images), labels))


def clock(net, slower=1.0):
    """Exported files take what the model says, and a share of the dense network more: `slower` beyond 1."""
    dense = modelled_ms(net, example_of(net), cost)

    def time(candidate):
        ms = modelled_ms(candidate, example_of(candidate), cost) + (slower - 1) * dense
        ratio = ms / (slower * dense)
        return PairedTiming(ratio=ratio, low=ratio, high=ratio, ms=ms, dense_ms=slower * dense, n=5)

    return dense, time


def shrink(net, ratio=0.5, slower=1.0, **more):
    dense, time = clock(net, slower)
    target = LatencyTarget(value=ratio, unit="x", per_ms=1 / dense)
    return prune_to_latency(net, target=target, cost=cost, step=8, time=time, loss=loss, **more).report


def check_all_of(net, tmp_path):
    report = shrink(half_masked(net), 0.5)
    assert abs(report["latency/measured"].value / 0.5 - 1) <= 0.1
    assert report["latency/predicted"].value == pytest.approx(report["latency/measured"].value)
    assert report.get("macs/ratio") < 0.8
    Mask.of(net).check_zero(net)
    save(net, tmp_path, "net", net.input.size)
    command = [sys.executable, "-m", "tests.prune.rebuilt", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"name": "net", "same": True, "revived": 0}


def test_is_as_fast_as_asked_and_rebuilds_bit_equal_in_a_fresh_process(tmp_path):
    check_all_of(resnet(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["timm:mobilenetv2_050", "timm:regnetx_002"])
def test_so_do_published_networks(source, tmp_path):
    check_all_of(make(source, 32), tmp_path)


def test_the_model_is_corrected_by_what_was_measured():
    report = shrink(resnet(), 0.6, slower=1.3)
    assert report["latency/corrections"].value >= 1
    assert abs(report["latency/measured"].value / 0.6 - 1) <= 0.1


def test_blocks_that_cost_no_loss_leave_whole():
    net, names = resnet(), ("body.stage1.1", "body.stage2.1")

    def weight_elsewhere(net):
        return -float(sum(p.detach().abs().sum() for name, p in net.named_parameters() if not name.startswith(names)))

    dense, time = clock(net)
    target = LatencyTarget(value=0.7, unit="x", per_ms=1 / dense)
    report = prune_to_latency(net, target=target, cost=cost, step=8, time=time, loss=weight_elsewhere).report
    dropped = net.edits[-1]["names"]
    assert dropped
    assert set(dropped) <= set(names)
    left = next(table for table in report.tables if table.title.startswith("Removable residual blocks"))
    assert {row["block"] for row in left.rows if row["left out"]} == set(dropped)
    assert [row["loss rise"] for row in left.rows if row["block"] in names] == [0, 0]
    assert net(stripes(4, size=16)[0]).shape == (4, 4)


def test_widths_are_on_the_fast_path():
    net = resnet()
    shrink(net, 0.5)
    assert all(layer.outputs % 8 == 0 for layer in trace(net.body, example_of(net)))


def test_groups_say_what_they_gave_up():
    net = resnet()
    report = shrink(net, 0.5)
    table = next(t for t in report.tables if t.title.startswith("Channels removed"))
    assert any(row["after"] < row["before"] and row["ms saved"] > 0 for row in table.rows)
    assert all(row["loss rise"] >= 0 for row in table.rows)


def test_excluded_layers_and_the_blocks_around_them_stay():
    net = resnet()
    shrink(net, 0.6, exclude=["body.stage1.*"])
    blocks = [name for edit in net.edits for name in edit.get("names", [])]
    assert not any(name.startswith("body.stage1") for name in blocks)
    assert net.body.stage1[0].conv1.out_channels == 16


def test_taylor_needs_examples_and_takes_them(monkeypatch):
    monkeypatch.setattr(latency_loop, "ALLOWED", 1.0)

    def examples(net):
        images, labels = stripes(16)
        yield F.cross_entropy(net(images), labels)

    report = shrink(make(args={"width": 32}), 0.6, importance="taylor", examples=examples)
    assert report["latency/measured"].value <= 0.63
    with pytest.raises(SettingsError, match="taylor importance needs examples"):
        shrink(make(args={"width": 32}), 0.6, importance="taylor")


@pytest.mark.parametrize(("ratio", "slower", "error"), [(0.01, 1.0, SettingsError), (0.35, 3.0, GateError)])
def test_what_fails_leaves_the_network_as_it_was(ratio, slower, error):
    net = resnet()
    before, edits = clone(net), list(net.edits)
    with pytest.raises(error):
        shrink(net, ratio, slower)
    assert net.edits == edits
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_the_same_every_time():
    one, other = resnet(), resnet()
    other.load_state_dict(one.state_dict())
    for net in (one, other):
        shrink(net, 0.5)
    assert one.edits == other.edits
    assert all(torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items())
