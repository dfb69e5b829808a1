import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effxfer.prune.graph.trace import follow


class Between(nn.Module):
    """Something between a convolution of eight channels and one that reads them."""

    def __init__(self, between, reads=8, parameter=None):
        super().__init__()
        self.first, self.other = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
        self.last = nn.Conv2d(reads, 4, 1)
        self.between = between
        if parameter is not None:
            self.loose = nn.Parameter(torch.rand(parameter))

    def forward(self, x):
        return self.last(self.between(self, self.first(x), self.other(x)))


def trail_of(between, reads=8, parameter=None):
    return follow(Between(between, reads, parameter).eval(), torch.rand(1, 3, 4, 4))


def classes(trail, ids):
    return trail.ties.roots(ids).tolist()


@pytest.mark.parametrize(
    ("between", "order"),
    [
        (lambda net, x, y: F.relu(x), range(8)),
        (lambda net, x, y: x.roll(1, 1), [7, *range(7)]),
        (lambda net, x, y: F.avg_pool2d(x.flip(1), 2), range(7, -1, -1)),
        (lambda net, x, y: F.channel_shuffle(x, 2), [0, 4, 1, 5, 2, 6, 3, 7]),
        (lambda net, x, y: x.view(1, 4, 2, 4, 4).transpose(1, 2).reshape(1, 8, 4, 4), [0, 2, 4, 6, 1, 3, 5, 7]),
        (lambda net, x, y: x.flatten(2).transpose(1, 2).transpose(1, 2).view(1, 8, 4, 4), range(8)),
        (lambda net, x, y: torch.cat(x.split(2, 1)[::-1], 1), [6, 7, 4, 5, 2, 3, 0, 1]),
    ],
)  # fmt: skip
def test_channels_arrive_where_they_are_moved_to(between, order):
    trail = trail_of(between)
    made = trail.makes["first"]
    assert classes(trail, trail.reads["last"]) == classes(trail, made[list(order)])


def test_concatenation_keeps_both_apart_and_addition_ties_them():
    together = trail_of(lambda net, x, y: torch.cat([x, y], 1), reads=16)
    assert len(set(classes(together, together.reads["last"]))) == 16
    added = trail_of(lambda net, x, y: x + y)
    assert classes(added, added.makes["first"]) == classes(added, added.makes["other"])
    assert len(set(classes(added, added.makes["first"]))) == 8


def test_halves_lose_the_same_positions():
    trail = trail_of(lambda net, x, y: x.chunk(2, 1)[1], reads=4)
    found = classes(trail, trail.makes["first"])
    assert found[:4] == found[4:]
    assert len(set(found)) == 4


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1, 1), (1, 8, 4, 4)])
def test_a_parameter_that_scales_channels_is_tied_to_them(shape):
    trail = trail_of(lambda net, x, y: x * net.loose, parameter=shape)
    assert "loose" in trail.loose
    assert not trail.ties.pin_reasons().keys() & set(classes(trail, trail.makes["first"]))
    assert set(trail.ties.roots(trail.loose["loose"]).flatten().tolist()) == set(classes(trail, trail.makes["first"]))


def test_what_is_given_back_stays():
    trail = trail_of(lambda net, x, y: x)
    assert set(classes(trail, trail.makes["last"])) <= trail.ties.pin_reasons().keys()


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (lambda net, x, y: x.sort(1)[0], "sort"),
        (lambda net, x, y: x + torch.arange(8.0).view(8, 1, 1), "numbers of its own"),
        (lambda net, x, y: F.pad(x, (0, 0, 0, 0, 1, 0))[:, :8] + y, "combines them with something else"),
        (lambda net, x, y: torch.einsum("bchw,bdhw->bcd", x, y)[..., None], "multiplies every one of them with others"),
        (lambda net, x, y: F.conv2d(x, net.loose), "convolution"),
    ],
)
def test_what_is_not_understood_stays_and_is_named(between, why):
    trail = trail_of(between, parameter=(8, 8, 1, 1))
    made = torch.cat([trail.makes["first"], trail.makes["other"]])
    reasons = {trail.ties.pin_reasons().get(root, "") for root in classes(trail, made)}
    assert any(why in reason for reason in reasons), reasons


def test_averages_over_channels_are_told():
    trail = trail_of(lambda net, x, y: x / x.mean(1, keepdim=True))
    assert trail.mixed
    assert not trail.ties.pin_reasons().keys() & set(classes(trail, trail.makes["first"]))


def test_the_network_stays_as_it_is():
    net = Between(lambda net, x, y: x + y).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    follow(net, torch.rand(1, 3, 4, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
