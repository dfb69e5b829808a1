import json

import pytest
import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.compression.removed_block import RemovedBlock
from effxfer.net.edits import apply_edit, rebuild
from effxfer.train.optim.param_groups import parameter_groups
from tests.net.nets import inputs, made


def test_the_first_input_is_returned_whatever_comes_with_it():
    x = torch.randn(2, 3)
    assert RemovedBlock()(x) is x
    assert RemovedBlock()(x, torch.zeros(1), None) is x
    assert not RemovedBlock().state_dict()


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
