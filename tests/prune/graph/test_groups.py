import pytest
import torch

from effxfer.prune.compact.compact import compact
from effxfer.prune.graph.groups import channels_of, units_in
from effxfer.prune.graph.transaction import copy_for_tracing
from effxfer.prune.network import example_of
from effxfer.prune.weights.mask import Mask
from tests.prune.dead import dead_mask, outspoken
from tests.prune.nets import make

SWIN = {"img_size": 32, "depths": (1, 1), "embed_dim": 24, "num_heads": (2, 4), "window_size": 4}


def found(net, exclude=()):
    structure = units_in(copy_for_tracing(net), example_of(net), exclude)
    return {one.layer: one for one in structure.units}, structure.refused


def test_a_channel_is_tied_to_its_norm_its_depthwise_filter_and_its_reader():
    units, refused = found(make())
    (one,) = (one for one in units.values() if "body.conv2" in one.reads)
    assert set(one.makes) == {"body.conv1", "body.bn1", "body.depth"}
    assert channels_of(one.reads["body.conv2"], torch.arange(8) == 5).tolist() == [5]
    assert not refused


def test_a_residual_stage_is_one_set():
    units, _ = found(make("effxfer.net.cifar:resnet20", 16, args={"width": 4}))
    (one,) = (one for one in units.values() if "body.stage1.0.conv1" in one.reads)
    assert {f"body.stage1.{i}.conv2" for i in range(3)} < set(one.makes)
    assert set(one.reads) == {
        "body.stage1.0.conv1", "body.stage1.1.conv1", "body.stage1.2.conv1", "body.stage2.0.conv1",
        "body.stage2.0.shortcut.0",
    }  # fmt: skip


def test_a_channel_that_is_flattened_is_read_at_every_position():
    units, _ = found(make("tests.prune.nets_compact:Plain", 12))
    (one,) = (one for one in units.values() if "body.last" in one.reads)
    assert channels_of(one.reads["body.last"], torch.arange(8) == 2).tolist() == list(range(18, 27))


def test_heads_take_their_rows_of_all_three_projections():
    args = {"img_size": 32, "depth": 1, "embed_dim": 12, "num_heads": 3}
    units, _ = found(make("timm:vit_tiny_patch16_224", 32, args=args))
    one = units["body.blocks.0.attn"]
    second = torch.arange(3) == 1
    assert channels_of(one.makes["body.blocks.0.attn.qkv"], second).tolist() == [
        4, 5, 6, 7, 16, 17, 18, 19, 28, 29, 30, 31,
    ]  # fmt: skip
    assert channels_of(one.reads["body.blocks.0.attn.proj"], second).tolist() == [4, 5, 6, 7]
    (embedding,) = (u for u in units.values() if u.mixed)
    assert embedding.loose


@pytest.mark.parametrize(
    ("source", "size", "args", "layer", "why"),
    [
        ("timm:swin_tiny_patch4_window7_224", 32, SWIN, "body.layers.0.blocks.0.attn", "its heads stay"),
        ("tests.prune.nets:Attending", 8, {}, "body.attend", "its heads stay: it has no qkv and proj"),
    ],
)
def test_what_is_not_understood_is_left_alone_and_named(source, size, args, layer, why):
    net = outspoken(make(source, size, args=args))
    _, refused = found(net)
    assert refused[layer].startswith(why)
    dead_mask(net, quiet=True).store_(net) if source.startswith("timm") else None
    report = compact(net).report
    assert any(note.startswith(f"{layer} was not compacted: {why}") for note in report.notes)


def test_hidden_units_that_something_averages_over_are_told():
    """Global response normalisation is no layer that torch knows: it averages over hidden units as they are."""
    net = outspoken(make("timm:convnextv2_atto", 32, args={"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}))
    units, _ = found(net)
    one = units["body.stages.0.blocks.0.mlp.fc1"]
    assert one.mixed == "body.stages.0.blocks.0.mlp.grn"
    keep = torch.ones_like(net.get_parameter("body.stages.0.blocks.0.mlp.fc1.weight"), dtype=torch.bool)
    keep[:4] = False
    Mask({"body.stages.0.blocks.0.mlp.fc1.weight": keep}).store_(net)
    report = compact(net).report
    assert report["sparsity/real"].value == 0
    assert any(f"{one.mixed} averages over channels" in note for note in report.notes)


def test_excluded_layers_have_no_units():
    units, _ = found(make(), ["body.conv2"])
    assert "body.conv2" not in units
