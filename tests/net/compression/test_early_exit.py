from copy import deepcopy

import pytest
import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.compression.early_exit import EarlyExit, check_exit, find_modules_after
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.net import Net
from effxfer.net.taps import example_input, stage_ends, tap_widths
from effxfer.runtime.images.preprocess import Preprocess
from tests.net.text.nets import text_net, texts

SMALL = Preprocess(size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
SPECS = [HeadSpec(), HeadSpec(pool="gem"), HeadSpec(pool="attention"), HeadSpec(pool="bilinear", rank=2)]


class Nested(nn.Module):
    """A body whose middle is a module with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.middle = Middle()
        self.last = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.last(self.middle(self.stem(x)))


class Middle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.second(self.first(x)).relu()


ARGS = {
    "timm:test_vit": {"img_size": 32},
    "timm:swin_tiny_patch4_window7_224": {
        "img_size": 32, "window_size": 4, "embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8],
    },
}  # fmt: skip


def net_of(source="effxfer.net.cifar:resnet20", taps=("stage1",), spec=HeadSpec(), **args):  # noqa: B008
    net = Net({"source": source, "args": args}, SMALL)
    widths = tap_widths(net, taps)
    features = [widths[tap] for tap in taps]
    apply_edit(net, "set_head", spec=spec.plain(), features=features, classes=["a", "b"], taps=list(taps))
    return net.eval()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.pool)
@pytest.mark.parametrize(
    ("source", "taps"),
    [
        ("effxfer.net.cifar:resnet20", ("stage1", "stage2")),
        ("timm:mobilenetv2_035", ("blocks.2",)),
        ("timm:test_vit", ("blocks.0",)),
        ("torchvision:resnet18", ("layer1",)),
        ("timm:swin_tiny_patch4_window7_224", ("layers.1",)),
    ],
)
def test_what_is_cut_off_changes_nothing_leaves_for_good_and_rebuilds(source, taps, spec):
    net = net_of(source, taps, spec, **ARGS.get(source, {}))
    x, before = torch.rand(2, 3, 32, 32), sum(p.numel() for p in net.parameters())
    wanted, gone = net(x), find_modules_after(net, taps[-1])
    assert check_exit(net, taps[-1], gone)
    apply_edit(net, "cut", gone=gone)
    net.eval()
    assert torch.equal(net(x), wanted)
    assert sum(p.numel() for p in net.parameters()) < 0.8 * before
    again = rebuild(net.backbone, net.edits, net.input, net.classes).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), wanted)
    assert torch.equal(deepcopy(net)(x), wanted)


def test_a_cut_body_has_an_output_trains_and_takes_another_head():
    net = net_of()
    apply_edit(net, "cut", gone=find_modules_after(net, "stage1"))
    assert isinstance(net.body, EarlyExit)
    assert stage_ends(net.body, example_input(net)) == []
    found = net.outputs(torch.rand(2, 3, 32, 32), ("stage1",))
    assert torch.equal(found["out"], found["stage1"])
    width = tap_widths(net, ("out",))["out"]
    apply_edit(net, "set_head", spec={"kind": "linear"}, features=width, classes=["a", "b", "c"])
    net.train()(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_the_output_leaves_nothing_to_cut():
    net = net_of(taps=("out",))
    assert find_modules_after(net, "out") == []
    assert not check_exit(net, "out", [])


def test_a_body_ends_between_its_own_layers_only():
    net = net_of("tests.net.compression.test_early_exit:make_nested", ("middle.first",))
    gone = find_modules_after(net, "middle.first")
    assert "middle.second" in gone
    assert not check_exit(net, "middle.first", gone)
    with pytest.raises(ModelFileError, match="in the middle of middle"):
        apply_edit(net, "cut", gone=["middle.second"])
    with pytest.raises(ModelFileError, match="did you mean 'middle'"):
        apply_edit(net, "cut", gone=["midle"])
    assert check_exit(net, "middle", find_modules_after(net, "middle"))


def make_nested() -> nn.Module:
    return Nested()


def test_a_text_encoder_ends_behind_a_block():
    net, ids = text_net(), texts()
    assert tap_widths(net) == {"blocks.1": 32, "blocks.2": 32, "out": 32}
    expected, gone = net.outputs(ids, ("blocks.1",))["blocks.1"], find_modules_after(net, "blocks.1")
    assert check_exit(net, "blocks.1", gone)
    apply_edit(net, "cut", gone=gone)
    assert torch.equal(net.body(ids), expected)
    assert len(net.body.blocks) == 2
