import pytest
import torch
from torch.nn import functional as F

from effxfer.errors import SettingsError
from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.taylor import taylor
from tests.prune.nets import make, stripes

NAME = "body.conv2.weight"
IMAGES, LABELS = stripes(32)


def total(net):
    return F.cross_entropy(net(IMAGES), LABELS)


def halves(net):
    for part in (slice(0, 16), slice(16, 32)):
        yield F.cross_entropy(net(IMAGES[part]), LABELS[part])


def test_is_weight_times_mean_gradient():
    net = make()
    found = taylor(net, [NAME], ScoreContext(examples=halves))[NAME]
    (gradient,) = torch.autograd.grad(total(net), [net.get_parameter(NAME)])
    torch.testing.assert_close(found, (net.get_parameter(NAME).detach() * gradient).abs())


def test_is_the_change_of_the_loss_without_a_small_weight():
    net = make().double()
    images = IMAGES.double()

    def loss(net):
        return F.cross_entropy(net(images), LABELS)

    with torch.no_grad():
        net.body.conv2.weight[0, 0] *= 1e-4
    found = taylor(net, [NAME], ScoreContext(examples=lambda net: [loss(net)]))[NAME]
    before = float(loss(net).detach())
    with torch.no_grad():
        net.body.conv2.weight[0, 0, 1, 1] = 0
    assert abs(float(loss(net).detach()) - before) == pytest.approx(float(found[0, 0, 1, 1]), rel=1e-2)


def test_needs_examples():
    with pytest.raises(SettingsError, match="needs examples"):
        taylor(make(), [NAME], ScoreContext())


def test_a_weight_that_the_loss_does_not_see_scores_zero():
    net = make()
    found = taylor(net, [NAME], ScoreContext(examples=lambda net: [net.body.conv1.weight.sum()]))
    assert not found[NAME].any()
