import pytest
import torch

from effxfer.prune.channels.residual_blocks import residual_blocks
from tests.prune.nets import make


@pytest.mark.parametrize(
    ("source", "size", "count", "one"),
    [
        ("effxfer.net.cifar:resnet20", 16, 7, "body.stage1.0"),
        ("timm:resnet18", 32, 5, "body.layer1.0"),
        ("timm:mobilenetv2_035", 32, 10, "body.blocks.1.1"),
        ("timm:convnext_atto", 32, 12, "body.stages.0.blocks.0"),
        ("timm:mobilenetv3_small_100", 32, 6, "body.blocks.1.1"),
        ("tests.prune.nets:Tiny", 8, 0, None),
    ],
)
def test_finds_the_blocks_that_add_to_their_input(source, size, count, one):
    net = make(source, size)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = residual_blocks(net, torch.rand(1, 3, size, size))
    assert len(found) == count
    assert one is None or one in found
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_block_around_what_must_stay_is_left_out():
    net = make("effxfer.net.cifar:resnet20", 16)
    fixed = [net.body.stage1[1].conv2]
    assert "body.stage1.1" not in residual_blocks(net, torch.rand(1, 3, 16, 16), fixed)


def test_a_tapped_block_stays():
    net = make("effxfer.net.cifar:resnet20", 16, taps=("stage1.2", "stage2", "out"))
    found = residual_blocks(net, torch.rand(1, 3, 16, 16))
    assert "body.stage1.2" not in found
    assert "body.stage2.2" in found
