import pytest
import torch

from effxfer.net.compression.removed_block import RemovedBlock
from effxfer.prune.channels.importance import Rule
from effxfer.prune.channels.pruner import ChannelPruner
from effxfer.prune.channels.sensitivity import (
    LossCurve,
    block_losses,
    loss_curves,
    pair_losses,
    use_batch_statistics,
)
from effxfer.prune.network import example_of
from effxfer.train.state import clone
from tests.prune.nets import make


def weight_left(net):
    """A loss that rises by what is cut from the first convolution."""
    return -float(net.body.conv1.weight.detach().abs().sum())


def test_a_curve_rises_between_its_points():
    curve = LossCurve(counts=(0, 4, 8), rises=(0.0, 1.0, 1.0))
    assert [curve(n) for n in (0, 2, 4, 8, 9)] == [0.0, 0.5, 1.0, 1.0, 1.0]


def test_channels_go_weakest_first_and_come_back():
    net = make()
    example, before = example_of(net), clone(net)
    net.requires_grad_(True)
    pruner = ChannelPruner(net, example, Rule(importance="magnitude"))
    least = {c.layer: c.least(0.9, 1) for c in pruner.channels}
    curves = loss_curves(net, pruner.structure, pruner.channels, least, weight_left)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    first = next(c for c in pruner.channels if c.layer in ("body.conv1", "body.depth"))
    curve = curves[first.layer]
    assert curve.counts == (0, 2, 4, 6, 7)
    strength = before["body.conv1.weight"].abs().flatten(1).sum(1)
    order = first.scores.argsort(stable=True)
    assert curve.rises[1:] == pytest.approx([float(strength[order[:n]].sum()) for n in (2, 4, 6, 7)], rel=1e-4)
    assert curves["body.conv2"].rises == (0.0,) * 5


def test_what_gives_no_number_is_as_bad_as_can_be():
    net = make("effxfer.net.cifar:ResNet", 16, args={"blocks": 2, "width": 8})
    names, seen = ["body.stage1.0", "body.stage1.1"], []

    def loss(net):
        seen.append(sum(p.numel() for p in net.parameters()))
        return float("nan") if len(seen) == 2 else 1.0

    assert block_losses(net, names, loss) == {names[0]: 1e9, names[1]: 0.0}
    assert seen[0] > seen[1] == seen[2]
    assert sum(p.numel() for p in net.parameters()) == seen[0]


def test_pairs_cost_what_they_cost_beyond_each_alone():
    net = make("effxfer.net.cifar:ResNet", 16, args={"blocks": 3, "width": 8})
    names = [f"body.stage1.{number}" for number in range(3)]
    before = sum(p.numel() for p in net.parameters())

    def loss(net):
        """The square of how many of the three are gone."""
        return float(sum(isinstance(net.get_submodule(name), RemovedBlock) for name in names)) ** 2

    singles = block_losses(net, names, loss)
    assert singles == dict.fromkeys(names, 1.0)
    pairs = pair_losses(net, singles, loss)
    assert pairs == {name: dict.fromkeys([other for other in names if other != name], 2.0) for name in names}
    assert pair_losses(net, singles, loss, limit=2) == {names[0]: {names[1]: 2.0}, names[1]: {names[0]: 2.0}}
    assert sum(p.numel() for p in net.parameters()) == before


def test_norms_see_the_batch_and_keep_nothing():
    net = make()
    before = clone(net)
    images = torch.rand(4, 3, 8, 8)
    plain = net(images)
    with use_batch_statistics(net), torch.no_grad():
        assert not torch.allclose(net(images), plain)
    same = {n: torch.equal(t, before[n]) for n, t in net.state_dict().items() if "num_batches" not in n}
    assert all(same.values())
    assert not net.body.bn1.training
    assert torch.equal(net(images), plain)
