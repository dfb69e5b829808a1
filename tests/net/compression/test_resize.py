import json

import pytest
import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.compression.resize import measure_shapes, record_resize
from effxfer.net.edits import apply_edit, rebuild
from tests.net.nets import SMALL, halved, inputs, made


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
