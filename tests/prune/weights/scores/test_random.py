import torch

from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.random import random
from tests.prune.nets import make

NAMES = ["body.conv1.weight", "body.conv2.weight"]


def test_depends_on_the_seed_and_the_name_alone():
    net = make()
    both = random(net, NAMES, ScoreContext(seed=1))
    assert torch.equal(random(make(), NAMES[1:], ScoreContext(seed=1))[NAMES[1]], both[NAMES[1]])
    assert not torch.equal(random(net, NAMES, ScoreContext(seed=2))[NAMES[0]], both[NAMES[0]])


def test_is_uniform():
    scores = random(make(), NAMES, ScoreContext())[NAMES[1]]
    assert 0 <= scores.min() < 0.01
    assert 0.99 < scores.max() < 1
    assert abs(float(scores.mean()) - 0.5) < 0.05
