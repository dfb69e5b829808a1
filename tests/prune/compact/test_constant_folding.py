import pytest
import torch
from torch import nn

from effxfer.prune.compact.constant_folding import DroppedInputs, fold_, is_foldable
from tests.prune.nets import make


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(2, 2), True),
        (nn.Conv2d(2, 2, 1), True),
        (nn.Conv2d(2, 2, 3), True),
        (nn.Conv2d(2, 2, 3, padding="valid"), True),
        (nn.Conv2d(2, 2, 3, padding=1), False),
        (nn.Conv2d(2, 2, 3, padding="same"), False),
        (nn.Conv2d(2, 2, 1, padding=1), False),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), True),
        (nn.ConvTranspose2d(2, 2, 3), False),
    ],
)
def test_which_layers_take_a_constant(layer, expected):
    assert is_foldable(layer) is expected
    if isinstance(layer, nn.Conv2d):
        made = layer(torch.ones(1, 2, 5, 5)).detach().flatten(2)
        assert bool((made.amax(-1) - made.amin(-1) < 1e-6).all()) is expected


def test_timm_convolutions_that_pad_by_themselves_count_as_padding():
    from timm.layers import Conv2dSame

    assert not is_foldable(Conv2dSame(2, 2, 3))
    assert is_foldable(Conv2dSame(2, 2, 1))


@pytest.mark.parametrize("case", ["bias", "norm", "neither"])
def test_a_constant_goes_where_there_is_room(case):
    net = make("tests.prune.nets_compact:Plain", 12, args={"bias": case == "bias"})
    layer, norm = ("body.conv3", "body.bn3") if case == "norm" else ("body.conv2", "")
    conv = net.get_submodule(layer)
    x = torch.randn(2, 8, 6, 6)
    x[:, [1, 5]] = torch.tensor([0.7, -2.0]).view(1, 2, 1, 1)
    behind = net.get_submodule(norm) if norm else nn.Identity()
    expected = behind(conv(x)).detach()
    fold_(net, {layer: DroppedInputs(channels=torch.tensor([1, 5]), values=torch.tensor([0.7, -2.0]), norm=norm)})
    assert not conv.weight[:, [1, 5]].any()
    torch.testing.assert_close(behind(conv(x)).detach(), expected)
    assert (net.edits[-1] == {"kind": "add_bias", "layers": [layer]}) is (case == "neither")


def test_groups_keep_their_constants_to_themselves():
    net = make("tests.prune.nets_compact:Plain", 12)
    net.body.conv2 = conv = nn.Conv2d(8, 8, 3, groups=2)
    x = torch.randn(1, 8, 5, 5)
    x[:, 6] = 3.0
    expected = conv(x).detach()
    fold_(net, {"body.conv2": DroppedInputs(channels=torch.tensor([6]), values=torch.tensor([3.0]))})
    assert conv.weight[:4, 2].any()
    assert not conv.weight[4:, 2].any()
    torch.testing.assert_close(conv(x).detach(), expected)
