import torch

from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.magnitude import magnitude
from tests.prune.nets import make


def test_is_the_absolute_value():
    net = make()
    scores = magnitude(net, ["body.conv1.weight"], ScoreContext())
    assert list(scores) == ["body.conv1.weight"]
    assert torch.equal(scores["body.conv1.weight"], net.body.conv1.weight.detach().abs())
