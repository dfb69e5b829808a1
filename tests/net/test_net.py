"""A network rebuilt from its edits alone, in a fresh process, answers bit for bit as before."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from effxfer.artifact import describe
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.net import Net
from effxfer.net.taps import pool, tap_widths
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.weights.mask import Mask
from effxfer.runtime.images.preprocess import Preprocess
from tests.net.nets import SMALL, WIDE, inputs, made
from tests.prune.nets import without_smallest

REBUILD = """
import json, sys, torch
from safetensors.torch import load_file, save_file
from effxfer.net.edits import rebuild
from effxfer.runtime.images.preprocess import Preprocess
folder = sys.argv[1]
facts = json.load(open(folder + "/facts.json"))
torch.set_num_threads(1)
net = rebuild(facts["backbone"], facts["edits"], Preprocess.from_json(facts["preprocess"]), facts["classes"]).eval()
net.load_state_dict(load_file(folder + "/weights"))
with torch.inference_mode():
    save_file({"logits": net(load_file(folder + "/inputs")["x"])}, folder + "/answers")
"""


def shaped() -> Net:
    """A ticket whose channels were cut, with a head fed by two layers: every kind of edit, some of them twice."""
    net = made(taps=("stage2.0", "out"), spec={"kind": "mlp", "width": 12, "norm": "batch"})
    without_smallest(net, Mask.full(net), sparsity=0.6).store_(net)
    remove_channels(net, ratio=0.3, round_to=2)
    apply_edit(net, "set_head", spec={"kind": "cosine"}, features=net.head.hidden0.in_features, classes=["x", "y"],
             taps=["stage2.0", "out"])  # fmt: skip
    remove_channels(net, ratio=0.2)
    return net.eval()


def test_rebuilds_bit_for_bit_in_a_fresh_process(tmp_path):
    net = shaped()
    assert [edit["kind"] for edit in net.edits] == ["set_head", "sparsify", "resize", "set_head", "resize"]
    (tmp_path / "facts.json").write_text(json.dumps(describe(net)))
    save_file({name: t.contiguous() for name, t in net.state_dict().items()}, tmp_path / "weights")
    save_file({"x": inputs()}, tmp_path / "inputs")
    subprocess.run([sys.executable, "-W", "ignore", "-c", REBUILD, str(tmp_path)], check=True)
    with torch.inference_mode():
        assert torch.equal(load_file(tmp_path / "answers")["logits"], net(inputs()))


def test_rebuilding_twice_gives_the_same_edits_and_names():
    net = shaped()
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    assert again.edits == net.edits
    assert again.taps == net.taps == ("stage2.0", "out")
    assert again.classes == net.classes == ("x", "y")
    shapes = {name: t.shape for name, t in net.state_dict().items()}
    assert {name: t.shape for name, t in again.state_dict().items()} == shapes
    assert again.masks().keys() == net.masks().keys()


def test_a_mask_is_a_buffer_and_zeroes_in_place():
    net = made()
    name = "body.stage1.0.conv1.weight"
    apply_edit(net, "sparsify", weights=[name])
    net.masks()[name][0] = False
    net.apply_masks_()
    assert not bool(net.get_parameter(name)[0].any())
    assert bool(net.get_parameter(name)[1:].all())
    assert [key for key in net.state_dict() if key.startswith("keep/")] == ["keep/body/stage1/0/conv1/weight"]


def test_features_of_several_layers_stand_side_by_side():
    net = made(taps=("stage1.2", "out", "stage2.0"))
    with torch.inference_mode():
        found = net.pooled_taps(inputs(), net.taps)
        assert [found[tap].shape[1] for tap in net.taps] == [8, 32, 16]
        assert torch.equal(net.features(inputs()), torch.cat([found[tap] for tap in net.taps], 1))
        assert torch.equal(found["out"], net.body(inputs()))
    assert not any(module._forward_hooks for module in net.modules()), "no hook is left behind"


def test_hooks_go_also_when_the_body_fails():
    net = made(taps=("stage1.2", "out"))
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 5, 16, 16))
    assert not any(module._forward_hooks for module in net.modules())


def test_natural_taps_are_the_ends_of_resolutions_between_the_first_and_the_last():
    assert tap_widths(Net(WIDE, SMALL)) == {"stage2": 16, "out": 32}


def test_natural_taps_of_timm_are_where_it_says():
    net = Net({"source": "timm:test_resnet.r160_in1k", "args": {}}, Preprocess(size=32))
    widths = tap_widths(net)
    assert list(widths)[-1] == "out"
    assert set(widths) - {"out"} <= {name for name, _ in net.body.named_modules()}
    assert len(widths) >= 3


def test_widths_count_channels_where_a_body_has_them_last():
    swin = {"img_size": 32, "depths": [1, 1], "embed_dim": 24, "num_heads": [2, 4], "window_size": 4}
    net = Net({"source": "timm:swin_tiny_patch4_window7_224", "args": swin}, Preprocess(size=32))
    assert tap_widths(net, ["patch_embed", "layers.0", "layers.1", "out"]) == {
        "patch_embed": 24, "layers.0": 24, "layers.1": 48, "out": 48,
    }  # fmt: skip


def test_measuring_widths_leaves_the_mode_alone():
    net = made().train()
    tap_widths(net)
    assert net.training


@pytest.mark.parametrize(("shape", "expected"), [((2, 5, 3, 4), (2, 5)), ((2, 7, 5), (2, 5)), ((2, 5), (2, 5))])
def test_pools_maps_tokens_and_vectors(shape, expected):
    x = torch.randn(shape)
    pooled = pool(x)
    assert pooled.shape == expected
    if x.dim() == 3:
        assert torch.allclose(pooled, x.mean(1))
