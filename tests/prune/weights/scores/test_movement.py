import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.movement import add_movement_, movement, watch_
from tests.prune.nets import make

NAME = "body.conv2.weight"


def test_adds_up_minus_weight_times_gradient():
    net = make()
    weight = net.get_parameter(NAME)
    watch_(net, [NAME])
    expected = torch.zeros_like(weight)
    for step in range(3):
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
        expected -= weight.detach() * weight.grad
        add_movement_(net)
        with torch.no_grad():
            weight.sub_(0.1 * weight.grad)
    torch.testing.assert_close(movement(net, [NAME], ScoreContext())[NAME], expected)


def test_is_half_the_growth_of_the_square_for_small_steps():
    """Plain gradient descent: d(w^2)/dt = -2 w dL/dw."""
    net = make().double()
    weight, rate = net.get_parameter(NAME), 1e-4
    before = weight.detach().clone()
    watch_(net, [NAME])
    for _ in range(50):
        net.zero_grad()
        (weight - 0.3).square().sum().backward()
        add_movement_(net)
        with torch.no_grad():
            weight.sub_(rate * weight.grad)
    growth = (weight.detach().square() - before.square()) / (2 * rate)
    torch.testing.assert_close(movement(net, [NAME], ScoreContext())[NAME], growth, rtol=1e-2, atol=0.1)


def test_watching_again_begins_at_zero():
    net = make()
    watch_(net, [NAME])
    net.get_parameter(NAME).grad = torch.ones_like(net.get_parameter(NAME))
    add_movement_(net)
    watch_(net, [NAME])
    assert not movement(net, [NAME], ScoreContext())[NAME].any()


def test_what_has_no_gradient_or_overflowed_does_not_count():
    net = make()
    watch_(net, [NAME, "body.conv1.weight"])
    net.get_parameter(NAME).grad = torch.full_like(net.get_parameter(NAME), torch.inf)
    add_movement_(net)
    assert not any(score.any() for score in movement(net, [NAME, "body.conv1.weight"], ScoreContext()).values())


def test_what_was_not_watched_is_refused():
    with pytest.raises(SettingsError, match=r"body\.conv2\.weight was not watched"):
        movement(make(), [NAME], ScoreContext())
