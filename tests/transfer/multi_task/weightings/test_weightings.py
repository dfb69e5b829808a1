"""Weights of losses: the null value of each, and what moves them."""

import pytest
import torch

from effxfer.transfer.multi_task.weightings.dwa import Dwa
from effxfer.transfer.multi_task.weightings.equal import Equal
from effxfer.transfer.multi_task.weightings.gradnorm import GradNorm
from effxfer.transfer.multi_task.weightings.rlw import Rlw
from effxfer.transfer.multi_task.weightings.uncertainty import Uncertainty
from effxfer.transfer.multi_task.weightings.weighting_registry import WEIGHTINGS

LOSSES = torch.tensor([1.0, 4.0, 2.0])


def test_the_table_is_sorted():
    assert list(WEIGHTINGS) == sorted(WEIGHTINGS)


@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name != "rlw"])
def test_all_start_as_equal_ones(name):
    torch.testing.assert_close(WEIGHTINGS[name](3).weigh(LOSSES), LOSSES)


def test_constants_are_what_they_are():
    assert Equal(3, [2.0, 0.0, 1.0]).weigh(LOSSES).tolist() == [2, 0, 2]


def test_random_weights_change_with_the_step_alone():
    weighting, again = Rlw(3), Rlw(3)
    first = weighting.weigh(LOSSES)
    torch.manual_seed(9)
    assert torch.equal(first, again.weigh(LOSSES))
    assert float((first / LOSSES).sum()) == pytest.approx(3)
    weighting.after_step(LOSSES)
    assert not torch.equal(first, weighting.weigh(LOSSES))


def test_a_learned_variance_settles_where_the_loss_says():
    """`exp(-s) L + s / 2` is least at `exp(s) = 2 L`."""
    weighting = Uncertainty(3)
    optimizer = torch.optim.Adam(weighting.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        weighting.weigh(LOSSES).sum().backward()
        optimizer.step()
    torch.testing.assert_close(weighting.weights(), 1 / (2 * LOSSES), rtol=0.01, atol=0)


def epoch(weighting, losses):
    weighting.begin_epoch()
    for _ in range(5):
        weighting.after_step(losses)


def test_the_task_whose_loss_falls_slowest_weighs_more_from_the_third_epoch():
    weighting = Dwa(3)
    epoch(weighting, LOSSES)
    epoch(weighting, LOSSES * torch.tensor([0.5, 0.9, 0.7]))
    assert weighting.weights().tolist() == [1, 1, 1]
    weighting.begin_epoch()
    ratio = torch.tensor([0.5, 0.9, 0.7])
    torch.testing.assert_close(weighting.weights(), 3 * (ratio / 2).softmax(0))
    alike = Dwa(3, temperature=1e6)
    alike.load_state_dict(weighting.state_dict())
    torch.testing.assert_close(alike.weights(), torch.ones(3))


def test_norms_of_gradients_become_alike():
    """Of three losses with gradients of 1, 2 and 4 times their weights."""
    weighting, sizes = GradNorm(3, alpha=0.0, weight_lr=0.005), torch.tensor([1.0, 2.0, 4.0])
    for _ in range(500):
        weighting.combine(torch.eye(3) * weighting.weights() * sizes)
        weighting.after_step(LOSSES)
    norms = weighting.weights() * sizes
    assert float(norms.max() / norms.min()) < 1.2, norms
    assert float(weighting.weights().sum()) == pytest.approx(3, abs=1e-4)


def test_a_task_that_learns_slowly_is_asked_to_move_the_body_more():
    weighting = GradNorm(2, alpha=1.5)
    for losses in ([1.0, 1.0], [1.0, 0.1]):
        weighting.combine(torch.eye(2))
        weighting.after_step(torch.tensor(losses))
    assert weighting.weights()[0] > weighting.weights()[1]
