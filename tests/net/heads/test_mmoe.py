"""A mixture of experts: what its null value is, what selecting tasks keeps, and where it beats a shared layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effxfer.net.heads.mmoe import build_mmoe


def test_with_one_expert_it_is_a_hidden_layer_that_tasks_share():
    torch.manual_seed(0)
    head, x = build_mmoe(1, 8, 5, [3, 2]), torch.randn(4, 5)
    hidden = F.relu(head.experts[0](x))
    expected = torch.cat([tower.out(hidden) for tower in head.heads], 1)
    torch.testing.assert_close(head(x), expected)


def test_each_task_weighs_the_experts_by_its_own_gate():
    torch.manual_seed(0)
    head, x = build_mmoe(3, 8, 5, [3, 2]), torch.randn(4, 5)
    with torch.no_grad():
        head.gates[0].weight.zero_()
        head.gates[0].bias.copy_(torch.tensor([-100.0, 100.0, -100.0]))
    torch.testing.assert_close(head.answers(x)[0], head.heads[0].out(F.relu(head.experts[1](x))))


def test_selected_tasks_answer_as_before():
    torch.manual_seed(0)
    head, x = build_mmoe(3, 8, 5, [3, 2, 4]), torch.randn(4, 5)
    torch.testing.assert_close(head.select([0, 2])(x), head(x)[:, [0, 1, 2, 5, 6, 7, 8]])
    torch.testing.assert_close(head.select([1])(x), head(x)[:, 3:5])


class Shared(nn.Module):
    """Hard sharing of about as many weights."""

    def __init__(self, features, width):
        super().__init__()
        self.body = nn.Linear(features, width)
        self.towers = nn.ModuleList([nn.Linear(width, 1) for _ in range(2)])

    def forward(self, x):
        hidden = F.relu(self.body(x))
        return torch.cat([tower(hidden) for tower in self.towers], 1)


def unrelated_tasks(count, features, seed):
    """Two tasks of the paper's synthetic kind, whose directions are orthogonal."""
    rng = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(features, 2, generator=rng))[0]
    x = torch.randn(count, features, generator=rng)
    along = x @ directions
    return x, along + sum(torch.sin(a * along + b) for a, b in ((1.0, 0.0), (2.0, 0.5), (3.0, 1.0), (4.0, 1.5)))


def error_of(module, x, y, steps=1500):
    optimizer, rng = torch.optim.Adam(module.parameters(), 0.005), torch.Generator().manual_seed(1)
    for _ in range(steps):
        chosen = torch.randint(4000, (128,), generator=rng)
        optimizer.zero_grad()
        F.mse_loss(module(x[chosen]), y[chosen]).backward()
        optimizer.step()
    return float(F.mse_loss(module(x[4000:]), y[4000:]).detach())


@pytest.mark.slow
def test_experts_beat_a_shared_layer_on_unrelated_tasks():
    """The mean squared error of held-out examples was 0.44 with a shared layer, 0.11 with experts."""
    x, y = unrelated_tasks(5000, 32, 0)
    torch.manual_seed(0)
    shared, experts = Shared(32, 72), build_mmoe(4, 16, 32, [1, 1])
    sizes = [sum(parameter.numel() for parameter in module.parameters()) for module in (shared, experts)]
    assert sizes[1] < sizes[0]
    assert error_of(experts, x, y) < 0.7 * error_of(shared, x, y)
