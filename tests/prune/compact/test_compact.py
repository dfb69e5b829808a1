import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.net.edits import rebuild
from effxfer.prune.compact import compact as module
from effxfer.prune.compact.compact import compact, difference
from effxfer.prune.weights.mask import Mask
from effxfer.runtime.outputs.single_label import SingleLabel
from tests.prune.dead import dead_mask, outspoken
from tests.prune.nets import learn, make, save, stripes, without_smallest

ROOT = Path(__file__).parents[3]
PLAIN, JOINED = "tests.prune.nets_compact:Plain", "tests.prune.nets_compact:Joined"
VIT = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3}
CASES = {
    "plain": (PLAIN, 12, {}),
    "plain_unbiased": (PLAIN, 12, {"bias": False, "activation": "gelu"}),
    "plain_padded": (PLAIN, 12, {"padding": 1}),
    "plain_reflected": (PLAIN, 12, {"padding": 1, "mode": "reflect", "activation": "hardswish"}),
    "depthwise": ("tests.prune.nets:Tiny", 8, {}),
    "joined": (JOINED, 8, {}),
    "residual": ("effxfer.net.cifar:resnet20", 16, {"width": 4}),
    "vit": ("timm:vit_tiny_patch16_224", 32, VIT),
}
LARGER = {
    "mobilenetv3": ("timm:mobilenetv3_small_050", 32, {}),
    "regnetx": ("timm:regnetx_002", 32, {}),
}


def masked(case, seed=0, *, quiet=False):
    torch.manual_seed(seed)
    source, size, args = {**CASES, **LARGER}[case]
    net = outspoken(make(source, size, args=args))
    dead_mask(net, seed, quiet=quiet).store_(net)
    return net


def inputs(net, n=4, seed=5):
    size = net.input.size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@settings(max_examples=16, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.integers(0, 9), st.booleans())
def test_computes_the_same_with_fewer_parameters_and_can_be_rebuilt(case, seed, quiet):
    net = masked(case, seed, quiet=quiet)
    before, batch = deepcopy(net), inputs(net)
    report = compact(net, check=[batch]).report
    scale = difference(before, net, [batch])[1]
    assert scale > 0.05, "outputs that a wrong constant would change"
    assert difference(before, net, [batch])[0] <= 1e-5 * max(1, scale)
    assert report["difference"].value <= 1e-5 * max(1, scale)
    assert (parameters(net) < parameters(before)) == (report["sparsity/real"].value > 0)
    fresh = rebuild(net.backbone, json.loads(json.dumps(net.edits)), net.input, net.classes).eval()
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(batch), net(batch))
    if quiet:
        assert report["sparsity/real"].value == 100
        assert not net.masks()
    for name, keep in net.masks().items():
        assert not bool(keep.all())
        assert not bool(net.get_parameter(name)[~keep].any())


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(LARGER))
def test_whole_architectures(case):
    net = masked(case, quiet=True)
    before = deepcopy(net)
    report = compact(net).report
    assert difference(before, net, [inputs(net)])[0] <= 1e-5
    assert report["sparsity/real"].value == 100
    assert report["macs/ratio"].value < 0.8


def test_rebuilds_bit_equal_in_a_fresh_process(tmp_path):
    for case in ("plain_unbiased", "residual", "vit"):
        net = masked(case)
        compact(net)
        save(net, tmp_path, case, net.input.size)
    command = [sys.executable, "-m", "tests.prune.rebuilt", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [{"name": n, "same": True, "revived": 0} for n in ("plain_unbiased", "residual", "vit")]


def test_by_hand():
    """Two of eight channels are dead: 2 rows of 3x9 weights, 2 norms of 2, 2 columns of 8x9 weights."""
    torch.manual_seed(0)
    net = outspoken(make(PLAIN, 12))
    keep = torch.ones_like(net.body.conv1.weight, dtype=torch.bool)
    keep[[1, 4]] = False
    Mask({"body.conv1.weight": keep}).store_(net)
    before = parameters(net)
    report = compact(net).report
    assert net.body.conv1.weight.shape == (6, 3, 3, 3)
    assert before - parameters(net) == 2 * 27 + 2 * 2 + 2 * 72
    assert report["zeros/before"].value == 54
    assert report["zeros/after"].value == 0


def test_a_dead_channel_upstream_takes_those_downstream_and_above_with_it():
    torch.manual_seed(0)
    net = outspoken(make(PLAIN, 12))
    one, two = (torch.ones_like(w, dtype=torch.bool) for w in (net.body.conv2.weight, net.body.conv3.weight))
    two[:, 3] = False  # nobody reads what conv2 makes third
    one[4:, :2] = False
    one[:3, :2] = False  # so what only its third output reads is read by nobody
    Mask({"body.conv2.weight": one, "body.conv3.weight": two}).store_(net)
    before = deepcopy(net)
    compact(net)
    assert (net.body.conv1.out_channels, net.body.conv2.out_channels) == (6, 7)
    assert difference(before, net, [inputs(net)])[0] <= 1e-5


def test_masks_that_kill_no_channel_leave_the_network_as_it_is():
    net = make("effxfer.net.cifar:resnet20", 16, args={"width": 4})
    without_smallest(net, Mask.full(net), sparsity=0.3).store_(net)
    before, edits = deepcopy(net.state_dict()), list(net.edits)
    report = compact(net).report
    assert net.edits == edits
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert "no channel or head could leave" in report.notes[0]
    assert report["sparsity/real"].value == 0
    assert report["parameters/ratio"].value == 1


def test_a_ticket_stays_a_ticket():
    net = masked("plain_padded")
    extra = torch.rand_like(net.body.conv3.weight) < 0.5
    Mask({"body.conv3.weight": extra}).store_(net)
    with torch.no_grad():
        net.body.conv3.weight[net.masks()["body.conv3.weight"]] = 1.0
        net.body.conv3.weight[0, 0] = 0  # kept, and zero by chance
        net.masks()["body.conv3.weight"][0, 0] = True
    report = compact(net).report
    keep = net.masks()["body.conv3.weight"]
    assert keep.shape == net.body.conv3.weight.shape
    assert bool(keep[0, 0]) or not bool(net.body.conv3.weight[0, 0])
    zeros = sum(int((~k).sum()) for k in net.masks().values())
    assert report["zeros/after"].value == zeros > 0
    images, labels = stripes(64, size=12)
    learn(net, images, labels, steps=2)
    Mask.of(net).check_zero(net)


def test_heads_leave_and_are_counted():
    torch.manual_seed(0)
    net = outspoken(make("timm:vit_tiny_patch16_224", 32, args=VIT))
    dead_mask(net, only=["body.blocks.1.attn"], share=1.0).store_(net)
    before = deepcopy(net)
    report = compact(net).report
    assert net.body.blocks[1].attn.num_heads == 1
    assert net.body.blocks[0].attn.num_heads == 3
    assert difference(before, net, [inputs(net)])[0] <= 1e-5
    rows = {row["layer"]: row for row in report.tables[0].rows}
    assert rows["body.blocks.1.attn, heads"]["after"] == 1
    assert "2 attention heads" in report.notes[0]


@pytest.mark.parametrize(
    ("source", "layer", "why"),
    [
        ("tests.prune.nets_compact:Averaged", "body.first", "body.first: 2 dead stay, because body.norm averages"),
        (JOINED, "body.mix", "body.mix: 2 dead stay, because body.excite is tied"),
        ("tests.prune.nets:Tiny", "body.conv1", "body.conv1: 2 dead stay, because body.depth is tied"),
        (PLAIN, "body.conv1", "body.conv1: 2 dead stay, because body.conv2 pads with zeros"),
    ],
)
def test_what_cannot_leave_is_told_with_its_layer(source, layer, why):
    net = make(source, 12 if source == PLAIN else 8, args={"padding": 1} if source == PLAIN else {})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_().add_(0.1)  # so that constants are not zero
    weight = f"{layer}.weight"
    keep = torch.ones_like(net.get_parameter(weight), dtype=torch.bool)
    keep[:2] = False
    Mask({weight: keep}).store_(net)
    before = deepcopy(net)
    report = compact(net).report
    assert parameters(net) == parameters(before)
    assert any(note.startswith(why) for note in report.notes), report.notes
    assert report.tables[1].title == "What could not leave"


def test_layers_that_go_wrong_stay_and_are_named():
    """What is rolled arrives elsewhere with fewer channels."""
    torch.manual_seed(0)
    net = outspoken(make("tests.prune.nets:Shifted", 8))
    keep = torch.ones_like(net.body.first.weight, dtype=torch.bool)
    keep[-3:] = False
    Mask({"body.first.weight": keep, "body.first.bias": keep[:, 0, 0, 0].clone()}).store_(net)
    before = deepcopy(net)
    report = compact(net).report
    assert difference(before, net, [inputs(net)])[0] <= 1e-5
    assert parameters(net) == parameters(before)
    assert any("body.first" in note for note in report.notes[1:]), report.notes


def test_what_only_goes_wrong_together_is_refused_and_left_as_it_was(monkeypatch):
    net = masked("plain", quiet=True)
    before, edits = deepcopy(net.state_dict()), list(net.edits)
    copy, real = deepcopy(net), module.difference
    compact(copy)
    lost = parameters(net) - parameters(copy)

    def worse(one, other, batches):
        found = real(one, other, batches)
        return (1.0, found[1]) if parameters(one) - parameters(other) == lost else found

    monkeypatch.setattr(module, "difference", worse)
    with pytest.raises(GateError, match=r"body\..* together"):
        compact(net)
    assert net.edits == edits
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def test_mode_and_frozen_parameters_come_back():
    net = masked("plain").train()
    net.body.conv1.requires_grad_(False)
    compact(net)
    assert net.training
    assert not net.body.conv1.weight.requires_grad
    assert net.body.conv2.weight.requires_grad


def test_the_same_every_time():
    one, other = masked("residual"), masked("residual")
    compact(one)
    compact(other)
    assert one.edits == other.edits
    assert all(torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items())


def test_a_network_without_a_head_keeps_its_outputs():
    net = masked("depthwise", quiet=True)
    net.head = torch.nn.Identity()
    width = net(inputs(net)).shape
    compact_on_edits_of_the_body(net)
    assert net(inputs(net)).shape == width


def compact_on_edits_of_the_body(net):
    net.edits = [edit for edit in net.edits if edit["kind"] != "set_head"]
    net.output = SingleLabel()
    compact(net)


@pytest.mark.parametrize("max_error", [-0.1, 1.0])
def test_settings_without_sense_are_refused(max_error):
    with pytest.raises(SettingsError, match="max_error must be"):
        compact(make(), max_error=max_error)


def test_an_allowed_error_needs_images():
    with pytest.raises(SettingsError, match="needs calibration images"):
        compact(make(), max_error=0.1)


def test_what_cannot_be_traced_is_refused():
    def broken(x):
        raise RuntimeError("no gradients here")

    net = make()
    net.body.forward = broken
    with pytest.raises(ModelFileError, match="cannot be traced: no gradients here"):
        compact(net)


def test_nothing_to_prune_is_told():
    assert "no channel or head could leave" in compact(make("tests.prune.nets:Bare")).report.notes[0]


def test_half_of_a_grouped_channel_is_told():
    net = make("tests.prune.nets_compact:Averaged", args={"groups": 2})
    keep = torch.ones_like(net.body.first.weight, dtype=torch.bool)
    keep[:1] = False
    Mask({"body.first.weight": keep}).store_(net)
    assert any("the same channel of another group is alive" in note for note in compact(net).report.notes)
