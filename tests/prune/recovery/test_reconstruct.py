from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.recovery.reconstruct import reconstruct_
from effxfer.prune.weights.mask import Mask
from effxfer.train.state import clone
from tests.prune.nets import make, stripes, without_smallest


class Twice(nn.Module):
    """Uses one layer twice, and another with reflected borders."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        return self.last(self.again(self.again(self.first(x).relu()).relu()))


def images(n=64, seed=0):
    return stripes(n, seed)[0]


def pruned(net, **how):
    smaller = deepcopy(net)
    return smaller, remove_channels(smaller, **how).kept_outputs


def lines(report):
    return {row["layer"]: row for row in report.tables[0].rows}


def outputs(net, name, x):
    found = []
    with torch.no_grad():
        handle = net.get_submodule(name).register_forward_hook(lambda _m, _i, out: found.append(out.clone()))
        net(x)
        handle.remove()
    return found[0]


def test_with_nothing_pruned_nothing_changes():
    dense = make()
    net = deepcopy(dense)
    before = clone(net)
    report = reconstruct_(net, dense, lambda: images().split(32), {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert {row["left alone"] for row in lines(report).values()} == {"nothing to gain"}


def test_a_channel_that_others_repeat_is_not_missed():
    """All outputs of the first layer are one; half of them leave, and the sums of the weights on them remain."""
    dense = make()
    with torch.no_grad():
        for layer in (dense.body.conv1, dense.body.bn1, dense.body.depth):
            for tensor in layer.state_dict().values():
                tensor[...] = tensor[:1] if tensor.dim() else tensor
    net, left = pruned(dense, ratio=0.5, exclude=["body.conv2"])
    assert left.keys() == {"body.conv1", "body.depth"}
    assert left["body.conv1"] == left["body.depth"]
    assert len(left["body.depth"]) == 4
    x = images()
    broken = F.mse_loss(net(x), dense(x)).item()
    reconstruct_(net, dense, lambda: x.split(32), left)
    assert F.mse_loss(net(x), dense(x)).item() < 1e-4 * broken
    held = images(seed=1)
    assert F.mse_loss(net(held), dense(held)).item() < 1e-3 * broken


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.8])
def test_no_layer_gets_worse_on_the_images(ratio):
    dense = make()
    net, left = pruned(dense, ratio=ratio)
    before, x = deepcopy(net), images()
    found = lines(reconstruct_(net, dense, lambda: x.split(32), left))
    done = {name: row for name, row in found.items() if not row["left alone"]}
    assert "body.conv2" in done
    assert all(row["error after %"] <= row["error before %"] for row in done.values())
    first = next(iter(done))
    wanted = outputs(dense, first, x)[:, left[first]]
    errors = [float((outputs(one, first, x) - wanted).square().sum()) for one in (before, net)]
    assert errors[1] < errors[0]
    of = float(wanted.square().sum()) / 100
    told = [found[first]["error before %"], found[first]["error after %"]]
    assert told == pytest.approx([error / of for error in errors], rel=1e-3)


def test_the_dense_network_the_shapes_and_the_modes_stay():
    dense = make()
    net, left = pruned(dense, ratio=0.5)
    net.train()
    net.body.bn1.eval()
    state, shapes = clone(dense), {name: t.shape for name, t in net.state_dict().items()}
    again = deepcopy(net)
    for one in (net, again):
        reconstruct_(one, dense, lambda: images().split(32), left)
    assert all(torch.equal(t, state[name]) for name, t in dense.state_dict().items())
    assert {name: t.shape for name, t in net.state_dict().items()} == shapes
    assert (net.training, net.body.bn1.training, dense.training) == (True, False, False)
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in net.state_dict().items())


def test_a_ticket_stays_a_ticket():
    dense = make(args={"width": 16})
    without_smallest(dense, Mask.full(dense), sparsity=0.6).store_(dense)
    net, left = pruned(dense, ratio=0.5)
    masks = {name: keep.clone() for name, keep in net.masks().items()}
    found = lines(reconstruct_(net, dense, lambda: images().split(32), left))
    assert not found["body.conv2"]["left alone"]
    for name, keep in masks.items():
        assert not net.get_parameter(name)[~keep].any()
        assert net.get_parameter(name)[keep].any()


def test_what_cannot_be_solved_says_why():
    dense = make("tests.prune.recovery.test_reconstruct:Twice")
    net = deepcopy(dense)
    found = lines(reconstruct_(net, dense, lambda: images().split(32), {}))
    assert found["body.again"]["left alone"] == "it is called more than once"
    assert found["body.last"]["left alone"] == "its padding is not plain zeros"
    one = lines(reconstruct_(net, dense, lambda: images(1).split(1), {}))
    assert one["body.first"]["left alone"] == "there are too few images"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["timm:mobilenetv3_small_050", "timm:test_convnext", "timm:test_resnet"])
def test_architectures(source):
    dense = make(source, 64)
    net, left = pruned(dense, ratio=0.4, round_to=2)
    x = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    report = reconstruct_(net, dense, lambda: x.split(8), left)
    whys = [row["left alone"] for row in lines(report).values()]
    assert whys.count("") > 5
    assert set(whys) <= {"", "nothing to gain"}
    assert net(x).isfinite().all()


def test_attention_whose_queries_were_scaled_anew_is_left_alone():
    """Narrower heads divide by another root; solved for the old queries, attention would be sharper than it was."""
    dense = make("timm:test_vit", 32)
    net, left = pruned(dense, ratio=0.5, steps=2)
    x = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = lines(reconstruct_(net, dense, lambda: x.split(8), left))
    narrow = [name for name in left if name.endswith("qkv")]
    assert narrow
    assert {name for name, positions in left.items() if not positions} == set(narrow)
    assert {found[name]["left alone"] for name in narrow} == {"its outputs are not scaled as they were"}
    assert sum(not row["left alone"] for row in found.values()) > 5
