import json

import pytest
import torch
from torch import nn

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.edits import EDITS, apply_edit, body_edits, measure_shapes, rebuild, record_resize
from effxfer.net.net import Net
from effxfer.train.optim.param_groups import parameter_groups
from tests.net.nets import SMALL, WIDE, inputs, made


def halved(net: Net) -> None:
    """Cut the first block's inner channels by hand."""
    block = net.body.stage1[0]
    keep = list(range(4))
    block.conv1.weight = nn.Parameter(block.conv1.weight[keep].detach().clone())
    block.conv1.out_channels = block.bn1.num_features = block.conv2.in_channels = 4
    block.conv2.weight = nn.Parameter(block.conv2.weight[:, keep].detach().clone())
    for name in ("weight", "bias"):
        setattr(block.bn1, name, nn.Parameter(getattr(block.bn1, name)[keep].detach().clone()))
    for name in ("running_mean", "running_var"):
        setattr(block.bn1, name, getattr(block.bn1, name)[keep].clone())


def test_edits_are_listed_in_order():
    assert list(EDITS) == sorted(EDITS)


def test_a_resize_records_exactly_what_changed():
    net = made()
    before = measure_shapes(net)
    halved(net)
    record_resize(net, before)
    edit = net.edits[-1]
    prefix = "body.stage1.0."
    assert edit["kind"] == "resize"
    assert edit["shapes"] == {
        prefix + "bn1.bias": [4],
        prefix + "bn1.running_mean": [4],
        prefix + "bn1.running_var": [4],
        prefix + "bn1.weight": [4],
        prefix + "conv1.weight": [4, 8, 3, 3],
        prefix + "conv2.weight": [8, 4, 3, 3],
    }
    assert edit["sizes"] == {
        prefix + "conv1": {"out_channels": 4},
        prefix + "bn1": {"num_features": 4},
        prefix + "conv2": {"in_channels": 4},
    }
    again = rebuild(net.backbone, json.loads(json.dumps(net.edits)), SMALL, net.classes).eval()
    again.load_state_dict(net.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(inputs()), net(inputs()))
    assert isinstance(again.body.stage1[0].conv1.weight, nn.Parameter)
    assert not isinstance(again.body.stage1[0].bn1.running_mean, nn.Parameter)


def test_biases_and_the_end_of_a_mask_are_replayed():
    net, conv = made(), "body.stage1.0.conv1"
    apply_edit(net, "sparsify", weights=[f"{conv}.weight", "body.stage1.0.conv2.weight"])
    apply_edit(net, "add_bias", layers=[conv])
    apply_edit(net, "densify", weights=[f"{conv}.weight"])
    assert not net.get_parameter(f"{conv}.bias").any()
    assert list(net.masks()) == ["body.stage1.0.conv2.weight"]
    with torch.no_grad():
        net.get_parameter(f"{conv}.bias").normal_()
    again = rebuild(net.backbone, json.loads(json.dumps(net.edits)), SMALL, net.classes).eval()
    again.load_state_dict(net.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(inputs()), net.eval()(inputs()))


def test_a_change_of_tensors_cannot_be_recorded():
    net = made()
    before = measure_shapes(net)
    net.body.stage1[0].bn1 = nn.Identity()
    with pytest.raises(ModelFileError, match="added or removed tensors"):
        record_resize(net, before)


def test_a_head_that_makes_no_sense_is_refused_with_a_suggestion():
    net = made()
    with pytest.raises(SettingsError, match="did you mean 'kind'"):
        apply_edit(net, "set_head", spec={"kid": "linear"}, features=32, classes=["a"])
    assert len(net.edits) == 1, "an edit that failed is not remembered"


def test_classes_and_taps_follow_the_head():
    net = made()
    apply_edit(net, "set_head", spec={"kind": "linear"}, features=16 + 32, classes=["x", "y"], taps=["stage2", "out"])
    assert (net.classes, net.taps) == (("x", "y"), ("stage2", "out"))
    assert net(inputs()).shape == (3, 2)


def test_removed_blocks_pass_their_input_on_and_come_back_removed():
    net = made()
    apply_edit(net, "sparsify", weights=["body.stage1.0.conv1.weight", "body.stem.0.weight"])
    name = "body.stage1.0"
    apply_edit(net, "remove_blocks", names=[name])
    assert isinstance(net.get_submodule(name), nn.Identity)
    assert set(net.masks()) == {"body.stem.0.weight"}
    net.apply_masks_()
    fresh = rebuild(net.backbone, json.loads(json.dumps(net.edits)), net.input, net.classes)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh.eval()(inputs()), net.eval()(inputs()))


def test_a_block_that_is_not_there_or_feeds_the_head_stays():
    net = made()
    with pytest.raises(ModelFileError, match=r"no block 'body\.stage1\.9' \(did you mean"):
        apply_edit(net, "remove_blocks", names=["body.stage1.9"])
    net.taps = ("stage1", "out")
    with pytest.raises(ModelFileError, match=r"body\.stage1 cannot be left out: the head is fed by it"):
        apply_edit(net, "remove_blocks", names=["body.stage1"])
    apply_edit(net, "remove_blocks", names=["body.stage1.0"])


def test_layers_above_a_removed_block_still_have_their_rates():
    net = made()
    apply_edit(net, "remove_blocks", names=["body.stage1.0"])
    groups = parameter_groups(net, lr=0.1, weight_decay=0.0, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    assert min(group["lr_scale"] for group in groups) > 0


def test_edits_of_the_body_rebuild_it_without_the_head():
    net = made()
    before = measure_shapes(net)
    halved(net)
    net.head.out.weight = nn.Parameter(net.head.out.weight[:, :-1].detach().clone())
    net.head.out.in_features -= 1
    record_resize(net, before)
    apply_edit(net, "sparsify", weights=["body.stage2.0.conv1.weight", "head.out.weight"])
    apply_edit(net, "densify", weights=["head.out.weight"])
    again = rebuild(net.backbone, json.loads(json.dumps(body_edits(net.edits))), net.input)
    assert isinstance(again.head, nn.Identity)
    assert list(again.masks()) == ["body.stage2.0.conv1.weight"]
    ours, theirs = ({n: t.shape for n, t in one.body.state_dict().items()} for one in (again, net))
    assert ours == theirs
    assert "head" not in json.dumps(body_edits(net.edits))
    assert net.edits[0]["kind"] == "set_head", "what it was given stays as it is"


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "resize", "shapes": {"body.stem.0.weight": [10**12, 3, 3, 3]}, "sizes": {}},
        {"kind": "resize", "shapes": {"body.stem.0.weight": [5 * 10**9]}, "sizes": {}},
        {"kind": "set_head", "spec": {"kind": "linear"}, "features": 10**9, "classes": ["a", "b"]},
        {"kind": "set_head", "spec": {"kind": "linear"}, "features": [10**9, 3], "classes": ["a", "b"]},
    ],
)
def test_no_edit_fills_the_memory(edit):
    with pytest.raises(ModelFileError, match="numbers, where") as caught:
        rebuild(WIDE, [edit], SMALL)
    assert caught.value.code == "E405"
