import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.graph.groups import units_in
from effxfer.prune.graph.removal import remove_units_
from effxfer.prune.weights.mask import Mask
from effxfer.train.state import clone
from tests.prune.dead import outspoken
from tests.prune.nets import learn, make, save, stripes, without_smallest

VIT = {"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads": 3}
ROOT = Path(__file__).parents[3]
RESNET = "effxfer.net.cifar:resnet20"
CASES = {
    "resnet20": {"source": RESNET, "size": 32},
    "resnet20_taps": {"source": RESNET, "size": 32, "taps": ("stage1", "stage2", "out")},
    "resnet20_mlp": {"source": RESNET, "size": 32, "spec": {"kind": "mlp", "width": 16, "norm": "batch"}},
    "resnet20_cosine": {"source": RESNET, "size": 32, "spec": {"kind": "cosine", "standardize": True}},
    "resnet18": {"source": "timm:resnet18", "size": 32},
    "mobilenetv2": {"source": "timm:mobilenetv2_100", "size": 32},
    "mobilenetv2_same": {"source": "timm:mobilenetv2_035", "size": 32, "args": {"pad_type": "same"}},
    "efficientnet_lite0": {"source": "timm:efficientnet_lite0", "size": 32},
    "mobilenetv3": {"source": "timm:mobilenetv3_small_100", "size": 32},
    "regnetx": {"source": "timm:regnetx_002", "size": 32},
    "convnext": {"source": "timm:convnext_atto", "size": 32},
}


def half_masked(net):
    mask = without_smallest(net, Mask.full(net), sparsity=0.5)
    mask.store_(net)
    return net


def losses(net):
    images, labels = stripes(64)
    for rows in range(0, 64, 32):
        yield F.cross_entropy(net(images[rows : rows + 32]), labels[rows : rows + 32])


@pytest.mark.slow
def test_rebuilds_bit_equal_in_a_fresh_process(tmp_path):
    for name, case in CASES.items():
        net = half_masked(make(**case))
        report = remove_channels(net, ratio=0.5).report
        assert report.get("macs/ratio") < 0.5, name
        save(net, tmp_path, name, case["size"])
    command = [sys.executable, "-m", "tests.prune.rebuilt", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [{"name": name, "same": True, "revived": 0} for name in sorted(CASES)]


def test_a_ticket_stays_a_ticket():
    net = half_masked(make(RESNET, 32))
    remove_channels(net, ratio=0.3)
    for name, keep in net.masks().items():
        weight = net.get_parameter(name)
        assert keep.shape == weight.shape
        assert torch.equal(keep, weight != 0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    net.apply_masks_()
    Mask.of(net).check_zero(net)


def test_the_survivors_sparsity_is_reported():
    net = half_masked(make())
    report = remove_channels(net, ratio=0.5).report
    zeros = sum(int((net.get_parameter(n) == 0).sum()) for n in net.masks())
    total = sum(k.numel() for k in net.masks().values())
    assert report.get("sparsity/survivors") == pytest.approx(100 * zeros / total)
    assert remove_channels(make(), ratio=0.5).report.get("sparsity/survivors") is None


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_dead_channels_go_first_and_the_outputs_stay(importance):
    net = make()
    with torch.no_grad():
        net.body.conv1.weight[1::2] = 0
        net.body.conv1.bias[1::2] = 0
        net.body.bn1.weight[1::2] = 0
        net.body.bn1.bias[1::2] = 0
        net.body.depth.weight[1::2] = 0
        net.body.depth.bias[1::2] = 0
        net.body.conv2.weight[:, 1::2] = 0
    example = torch.rand(4, 3, 8, 8)
    alive, expected = net.body.conv1.weight[::2].clone(), net(example)
    remove_channels(net, ratio=0.5, exclude=["body.conv2"], importance=importance, examples=losses)
    assert torch.equal(net.body.conv1.weight, alive)
    torch.testing.assert_close(net(example), expected)


@pytest.mark.parametrize(
    ("scope", "round_to", "steps"), [("layer", 1, 1), ("layer", 4, 2), ("global", 1, 2), ("global", 4, 1)]
)
def test_meets_a_target_of_multiply_adds(scope, round_to, steps):
    net = make(args={"width": 32})
    report = remove_channels(net, macs_ratio=0.5, scope=scope, round_to=round_to, steps=steps).report
    assert 0.35 < report.get("macs/ratio") <= 0.5
    kept = [row["after"] for row in report.tables[0].rows if row["layer"].startswith("body.")]
    assert all(width % round_to == 0 for width in kept)


def test_channels_come_back_where_rounding_left_room(monkeypatch):
    net = make(RESNET, 16)
    full = remove_channels(deepcopy(net), macs_ratio=0.45, scope="global", round_to=8).report.get("macs/ratio")
    monkeypatch.setattr("effxfer.prune.channels.pruner.ROOM", 1.0)
    rounded = remove_channels(deepcopy(net), macs_ratio=0.45, scope="global", round_to=8).report.get("macs/ratio")
    assert rounded < 0.44 < full <= 0.45


def test_no_layer_loses_more_than_it_may():
    net = make(RESNET, 16)
    report = remove_channels(net, ratio=0.4, scope="global", max_ratio_per_layer=0.5).report
    assert all(row["after"] >= row["before"] / 2 for row in report.tables[0].rows)


def test_the_head_keeps_its_outputs_and_its_hidden_layers():
    net = make(spec={"kind": "mlp", "width": 12})
    remove_channels(net, ratio=0.5)
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    assert (net.head.hidden0.in_features, net.head.hidden0.out_features) == (8, 12)


def test_excluded_layers_keep_their_channels():
    net = make()
    remove_channels(net, ratio=0.5, exclude=["body.conv2"])
    assert (net.body.conv1.out_channels, net.body.conv2.out_channels) == (4, 16)


def test_prunes_again_and_trains_on():
    images, labels = stripes(128)
    net = half_masked(make(args={"width": 16}))
    remove_channels(net, ratio=0.25)
    remove_channels(net, ratio=0.25)
    assert [e["kind"] for e in net.edits].count("resize") == 2
    assert net.body.conv1.out_channels == 9
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    learn(net, images, labels, steps=3)
    Mask.of(net).check_zero(net)
    assert not torch.equal(net.state_dict()["body.conv1.weight"], before["body.conv1.weight"])


def test_mode_and_frozen_parameters_come_back():
    net = make().train()
    net.body.conv1.requires_grad_(False)
    remove_channels(net, ratio=0.5)
    assert net.training
    assert net.body.bn1.training
    assert [p.requires_grad for p in net.body.conv1.parameters()] == [False, False]
    assert net.body.conv2.weight.requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_the_same_every_time():
    one, other = make(args={"width": 32}), make(args={"width": 32})
    other.load_state_dict(one.state_dict())
    for net in (one, other):
        remove_channels(net, macs_ratio=0.4, scope="global")
    assert one.edits == other.edits
    assert all(torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items())


def test_one_pruning_leaves_no_trace_in_the_next():
    remove_channels(make("timm:regnetx_002", 32), ratio=0.5)
    net = make()
    remove_channels(net, ratio=0.5)
    assert net.body.conv1.out_channels == 4


def test_layer_norms_keep_the_order_of_what_survives():
    net = make("tests.prune.nets:Normed")
    with torch.no_grad():
        marks = 1 + torch.randperm(400).float() / 400
        net.body.norm.weight.copy_(marks)
        net.body.first.bias.copy_(marks)
    remove_channels(net, ratio=0.85, exclude=["body.second"])
    assert net.body.norm.normalized_shape == (60,)
    assert torch.equal(net.body.norm.weight, net.body.first.bias)


def left(report):
    (table,) = (table for table in report.tables if table.title == "Layers not pruned")
    return {row["layer"]: row["why"] for row in table.rows}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("Reshaped", r"the pruned network fails in body.*invalid for input"),
        ("Shifted", r"the network computes something else"),
    ],
)
def test_a_layer_that_cannot_be_pruned_stays_and_is_named(source, why):
    net = make(f"tests.prune.nets:{source}")
    report = remove_channels(net, ratio=0.5).report
    assert (net.body.first.out_channels, net.body.second.out_channels) == (8, 4)
    assert left(report).keys() == {"body.first"}
    assert re.search(why, left(report)["body.first"])
    assert report.notes[0].startswith("body.first was not pruned")


@pytest.mark.parametrize(
    ("source", "text"), [("Bare", "no layer whose channels"), ("Attending", r"body\.first: body\.attend")]
)
def test_where_nothing_can_be_pruned_the_network_is_refused_and_left_as_it_was(source, text):
    net = make(f"tests.prune.nets:{source}")
    before, edits = clone(net), list(net.edits)
    with pytest.raises(ModelFileError, match=text):
        remove_channels(net, ratio=0.5)
    assert net.edits == edits
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


@pytest.mark.parametrize(("ratio", "heads", "width"), [(0.25, 3, 12), (0.5, 2, 12), (0.7, 1, 14)])
def test_attention_loses_whole_heads_and_the_rest_in_width(ratio, heads, width):
    net = make("timm:vit_tiny_patch16_224", 32, args=VIT)
    remove_channels(net, ratio=ratio, exclude=["body.patch_embed.proj"])
    attention = net.body.blocks[0].attn
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (heads, width, heads * width)
    assert attention.qkv.out_features == 3 * heads * width == 3 * attention.proj.in_features


@pytest.mark.parametrize("fused", [True, False])
def test_attention_keeps_its_temperature(fused):
    """Channels of heads that are zero leave; what divides by the root of the width must not notice."""
    net = outspoken(make("timm:vit_tiny_patch16_224", 32, args=VIT))
    attention, example = net.body.blocks[0].attn, torch.rand(2, 3, 32, 32)
    attention.fused_attn = fused
    with torch.no_grad():
        dead = attention.qkv.weight.view(3, 3, 16, 48)[:, :, 1::2]
        dead.zero_()
        attention.qkv.bias.view(3, 3, 16)[:, :, 1::2] = 0
        attention.proj.weight.view(48, 3, 16)[:, :, 1::2] = 0
    expected = net(example)
    structure = units_in(net, example[:1], widths=True)
    (one,) = (one for one in structure.units if one.within)
    remove_units_(net, structure, {one.layer: torch.arange(16) % 2 == 1})
    assert attention.head_dim == 8
    torch.testing.assert_close(net(example), expected, rtol=1e-4, atol=1e-5)


def test_tokens_that_are_mixed_by_place_keep_their_layers():
    net = make("timm:mixer_s32_224", 64, args={"img_size": 64})
    report = remove_channels(net, ratio=0.5).report
    assert report.get("macs/ratio") < 0.35
    expected = {f"body.blocks.{block}.mlp_tokens.fc{layer}" for block in range(8) for layer in (1, 2)}
    assert left(report) == dict.fromkeys(expected, "it weighs positions, not channels")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "either ratio or macs_ratio"),
        ({"ratio": 0.5, "macs_ratio": 0.5}, "either ratio or macs_ratio"),
        ({"ratio": 1.0}, "ratio must be"),
        ({"macs_ratio": 0.0}, "macs_ratio must be"),
        ({"ratio": 0.5, "round_to": 0}, "round_to must be"),
        ({"ratio": 0.5, "steps": 0}, "steps must be"),
        ({"ratio": 0.5, "max_ratio_per_layer": 1.0}, "max_ratio_per_layer must be"),
        ({"ratio": 0.5, "importance": "taylor"}, "needs examples"),
        ({"ratio": 0.5, "exclude": ["body.conv9"]}, "body.conv9"),
        ({"macs_ratio": 0.001}, "cannot be reached"),
    ],
)
def test_settings_without_sense_are_refused(settings, text):
    with pytest.raises(SettingsError, match=text):
        remove_channels(make(), **settings)
