"""Directions from the gradients of several tasks: what each paper promises, and the toy problem of CAGrad's authors."""

from math import copysign, log, sqrt, tanh

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from effxfer.transfer.multi_task.weightings.cagrad import cagrad
from effxfer.transfer.multi_task.weightings.mgda import mgda
from effxfer.transfer.multi_task.weightings.pcgrad import pcgrad
from effxfer.transfer.multi_task.weightings.simplex import minimize_on_simplex, quadratic


def rows(tasks, seed, width=6):
    return torch.randn(tasks, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SOME = (st.integers(2, 5), st.integers(0, 2**31))


@settings(max_examples=20)
@given(*SOME)
def test_pcgrad_of_gradients_without_conflict_is_their_sum(tasks, seed):
    gradients = rows(tasks, seed).abs()
    torch.testing.assert_close(pcgrad(gradients), gradients.sum(0))


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_pcgrad_of_two_conflicting_tasks_lowers_both(seed):
    gradients = rows(2, seed)
    direction = pcgrad(gradients)
    assert bool((gradients @ direction >= -1e-9).all())


@settings(max_examples=200)
@given(*SOME)
@example(4, 21)  # exchanges between all pairs in turn stopped 2e-4 too early
def test_mgda_is_a_mean_that_lowers_every_task(tasks, seed):
    gradients = rows(tasks, seed)
    direction = mgda(gradients)
    # Of the shortest mean, the product with each gradient is at least its own square.
    assert float((gradients @ direction).min()) >= float(direction.square().sum()) - 1e-8
    assert float(direction.norm()) <= float(gradients.norm(dim=1).min()) + 1e-9


@settings(max_examples=20)
@given(*SOME)
def test_cagrad_stays_near_the_mean_and_helps_the_worst_task(tasks, seed):
    gradients, c = rows(tasks, seed), 0.4
    mean, direction = gradients.mean(0), cagrad(gradients, c)
    assert float((direction - mean).norm()) <= c * float(mean.norm()) + 1e-6
    assert float((gradients @ direction).min()) >= float((gradients @ mean).min()) - 1e-6


@settings(max_examples=20)
@given(*SOME)
def test_cagrad_without_a_radius_is_the_mean(tasks, seed):
    gradients = rows(tasks, seed)
    torch.testing.assert_close(cagrad(gradients, 0.0), gradients.mean(0))


@pytest.mark.parametrize("combine", [pcgrad, mgda, cagrad])
@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_directions_grow_with_the_gradients(combine, scale):
    """So that the scaling of losses in half precision has no effect."""
    gradients = rows(3, 0)
    torch.manual_seed(0)
    plain = combine(gradients)
    torch.manual_seed(0)
    torch.testing.assert_close(combine(gradients * scale) / scale, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("combine", [pcgrad, mgda, cagrad])
def test_no_gradient_is_no_direction(combine):
    assert combine(torch.zeros(3, 4)).tolist() == [0, 0, 0, 0]


@settings(max_examples=20)
@given(*SOME)
def test_no_vertex_and_no_mean_beats_the_minimum(tasks, seed):
    gradients = rows(tasks, seed)
    products = (gradients @ gradients.T).tolist()
    found = minimize_on_simplex(lambda w: quadratic(products, w), tasks)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= 0
    others = [[float(i == k) for k in range(tasks)] for i in range(tasks)] + [[1 / tasks] * tasks]
    assert quadratic(products, found) <= min(quadratic(products, other) for other in others) + 1e-12


def toy(x, y):
    """The losses of Liu et al. 2021 (2110.14048) and their gradients, `(2,)` and `(2, 2)`, by hand."""
    upper, lower = max(tanh(y / 2), 0.0), max(tanh(-y / 2), 0.0)
    slope = (1 - tanh(y / 2) ** 2) / 2
    losses, gradients = [], []
    for inner, sign, centre in ((0.5 * (-x - 7) - tanh(-y), 1, 7), (0.5 * (-x + 3) + tanh(-y) + 2, -1, -7)):
        above = log(max(abs(inner), 5e-6)) + 6
        free = abs(inner) > 5e-6
        d = copysign(1, inner) / max(abs(inner), 5e-6) if free else 0.0
        below = ((-x + centre) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20
        losses.append(above * upper + below * lower)
        dx = -0.5 * d * upper - 2 * (-x + centre) / 10 * lower
        dy = sign * (1 - tanh(y) ** 2) * d * upper - 0.2 * (-y - 8) / 10 * lower
        gradients.append((dx, dy + slope * (above * (y > 0) - below * (y < 0))))
    return losses, gradients


def descend(combine, steps, rate=0.001):
    """Follow Adam from (-8.5, 7.5); give the mean loss."""
    place, first, second = [-8.5, 7.5], [0.0, 0.0], [0.0, 0.0]
    for step in range(1, steps + 1):
        direction = combine(torch.tensor(toy(*place)[1], dtype=torch.float64)).tolist()
        for k, d in enumerate(direction):
            first[k] = 0.9 * first[k] + 0.1 * d
            second[k] = 0.999 * second[k] + 0.001 * d * d
            move = first[k] / (1 - 0.9**step) / (sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
            place[k] -= rate * move
    return sum(toy(*place)[0]) / 2


def test_the_gradients_of_the_toy_problem_are_those_of_torch():
    for place in ((-8.5, 7.5), (3.0, 0.5), (1.0, -2.0)):
        x = torch.tensor(place, dtype=torch.float64)
        given_, near = torch.tensor(toy(*place)[1]), []
        for k in range(2):
            step = torch.zeros(2, dtype=torch.float64)
            step[k] = 1e-6
            ahead, behind = toy(*(x + step).tolist())[0], toy(*(x - step).tolist())[0]
            near.append([(a - b) / 2e-6 for a, b in zip(ahead, behind, strict=True)])
        torch.testing.assert_close(given_, torch.tensor(near).T, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_mean_gradient_is_stuck_in_the_valley():
    """With a rate of 0.01 it gets through as well, to -15.08: the valley depends on the rate."""
    assert descend(lambda gradients: gradients.mean(0), 60_000) == pytest.approx(3.7, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("combine", [mgda, pcgrad, lambda g: cagrad(g, 0.5)], ids=["mgda", "pcgrad", "cagrad"])
def test_surgery_leaves_the_valley(combine):
    """After 60,000 steps MGDA was at -13.96, PCGrad at -13.01, CAGrad at -14.00; the least mean loss is -15.1."""
    torch.manual_seed(0)
    assert descend(combine, 60_000) < -12.5
