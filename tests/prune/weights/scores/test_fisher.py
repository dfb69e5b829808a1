import pytest
import torch
from torch.nn import functional as F

from effxfer.errors import SettingsError
from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.fisher import fisher
from tests.prune.nets import make, stripes

NAME = "body.conv2.weight"
IMAGES, LABELS = stripes(8)


def one_by_one(net):
    for i in range(8):
        yield F.cross_entropy(net(IMAGES[i : i + 1]), LABELS[i : i + 1])


def test_is_half_the_square_of_the_weight_times_the_mean_square_of_the_gradient():
    net = make()
    found = fisher(net, [NAME], ScoreContext(examples=one_by_one))[NAME]
    weight = net.get_parameter(NAME)
    squares = torch.stack([torch.autograd.grad(loss, [weight])[0].square() for loss in one_by_one(net)])
    torch.testing.assert_close(found, weight.detach().square() * squares.mean(0) / 2)


def test_gradients_that_cancel_out_count():
    net = make()

    def opposed(net):
        yield net.get_parameter(NAME).sum()
        yield -net.get_parameter(NAME).sum()

    found = fisher(net, [NAME], ScoreContext(examples=opposed))[NAME]
    torch.testing.assert_close(found, net.get_parameter(NAME).detach().square() / 2)


def test_needs_examples():
    with pytest.raises(SettingsError, match="needs examples"):
        fisher(make(), [NAME], ScoreContext())
