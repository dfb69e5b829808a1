"""One step of each weighting beside LibMTL's own implementation, on random small problems; it is a reference alone.

Ours have the scale of a sum: T times LibMTL's `MGDA` and `RLW`, and T (1 + c^2) times its `CAGrad`.
"""

import random
from copy import deepcopy
from importlib.util import find_spec
from math import log
from statistics import median

import pytest
import torch
from torch import nn

from benchmarks.references.libmtl_trainer import hard_sharing, weighting_class
from effxfer.transfer.multi_task.weightings.weighting_registry import WEIGHTINGS

pytestmark = [
    pytest.mark.skipif(find_spec("LibMTL") is None, reason="LibMTL is not installed"),
    pytest.mark.filterwarnings("default"),  # its own
]
SEEDS = range(20)
C = 0.4


@pytest.fixture(autouse=True)
def _digits():
    """LibMTL makes its vectors in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Problem:
    """A layer that tasks share, a head and random labels for each, and losses of different size."""

    def __init__(self, tasks, seed):
        torch.manual_seed(seed)
        self.tasks, self.shared = tasks, nn.Linear(6, 4)
        self.heads = nn.ModuleDict({str(number): nn.Linear(4, 2) for number in range(tasks)})
        self.inputs, self.labels = torch.randn(16, 6), torch.randint(2, (tasks, 16))
        self.sizes = torch.randn(tasks).exp()

    def losses(self, shared, heads):
        features = shared(self.inputs).tanh()
        each = [
            nn.functional.cross_entropy(head(features), y) for head, y in zip(heads.values(), self.labels, strict=True)
        ]
        return torch.stack(each) * self.sizes

    def gradients(self, terms):
        parameters = list(self.shared.parameters())
        each = [torch.autograd.grad(term, parameters, retain_graph=True) for term in terms]
        return torch.stack([torch.cat([gradient.flatten() for gradient in of]) for of in each])

    def ours(self, weighting):
        """Give the gradient of the shared parameters in one step, and those of the tasks."""
        rows = self.gradients(weighting.weigh(self.losses(self.shared, self.heads)))
        combined = weighting.combine(rows)
        return rows.sum(0) if combined is None else combined, rows

    def theirs(self, name, seed=0, prepare=lambda model: None):
        """Give LibMTL's gradient in one step, the weights that it says, and its model."""
        theirs, options = weighting_class(name)
        model = type("Model", (hard_sharing(), theirs), {})(
            list(self.heads), lambda: deepcopy(self.shared), deepcopy(self.heads), False, False, torch.device("cpu")
        )
        model.init_param()
        prepare(model)
        random.seed(seed)
        torch.manual_seed(seed)
        weights = model.backward(self.losses(model.encoder, model.decoders), **options)
        return torch.cat([p.grad.flatten() for p in model.encoder.parameters()]), torch.as_tensor(weights), model


def assert_equal(ours, theirs, tolerance=1e-5):
    assert float((ours - theirs).norm() / theirs.norm()) < tolerance


@pytest.mark.parametrize(("name", "tasks"), [("equal", 2), ("equal", 3), ("pcgrad", 2)])
def test_a_step_is_the_same(name, tasks):
    for seed in SEEDS:
        problem = Problem(tasks, seed)
        assert_equal(problem.ours(WEIGHTINGS[name](tasks))[0], problem.theirs(name)[0])


def test_random_weights_are_the_same_of_the_same_draw():
    problem = Problem(3, 0)
    assert_equal(problem.ours(WEIGHTINGS["rlw"](3))[0] / 3, problem.theirs("rlw")[0])


def test_a_learned_variance_is_the_same_but_for_its_start():
    """LibMTL has `L / (2 exp(s)) + s / 2` from `s = -0.5`; ours is that of `s - log 2`, from `s = 0`."""
    for seed in SEEDS:
        problem, weighting = Problem(3, seed), WEIGHTINGS["uncertainty"](3)
        theirs, _, model = problem.theirs("uncertainty")
        with torch.no_grad():
            weighting.log_variance.copy_(model.loss_scale + log(2))
        assert_equal(problem.ours(weighting)[0], theirs)
        losses = problem.losses(problem.shared, problem.heads).detach()
        weighting.weigh(losses).sum().backward()
        assert_equal(weighting.log_variance.grad, model.loss_scale.grad)


def test_weights_by_the_speed_of_learning_are_the_same():
    for seed in SEEDS:
        problem, weighting = Problem(3, seed), WEIGHTINGS["dwa"](3).double()
        means = torch.rand(3, 2) + 0.5
        for mean in means.T:
            weighting.begin_epoch()
            weighting.after_step(mean)
        weighting.begin_epoch()

        def in_the_third_epoch(model, means=means):
            model.epoch, model.train_loss_buffer = 2, means.numpy()

        assert_equal(problem.ours(weighting)[0], problem.theirs("dwa", prepare=in_the_third_epoch)[0])


def test_surgery_of_three_tasks_has_the_same_results_over_all_orders():
    """Each side draws the order in which the gradients are projected."""

    def rounded(results):
        return {tuple((result / result.norm()).round(decimals=6).tolist()) for result in results}

    for seed in range(3):
        problem, ours = Problem(3, seed), WEIGHTINGS["pcgrad"](3)
        results = []
        for step in range(40):
            ours.steps.fill_(step)
            results.append(problem.ours(ours)[0])
        assert rounded(results) == rounded(problem.theirs("pcgrad", draw)[0] for draw in range(40))


def test_the_shortest_mean_of_two_gradients_is_the_same_inside_and_shorter_at_the_end():
    """LibMTL gives a task that should have no weight 0.001."""
    ends = 0
    for seed in range(40):
        problem = Problem(2, seed)
        theirs, weights, _ = problem.theirs("mgda")
        ours = problem.ours(WEIGHTINGS["mgda"](2))[0] / 2
        if float(weights.min()) < 0.00101:
            ends += 1
            assert float(ours.norm()) <= float(theirs.norm())
        else:
            assert_equal(ours, theirs)
    assert 0 < ends < 40


def test_the_shortest_mean_of_three_gradients_is_as_short():
    """LibMTL stops when no weight moves by 1e-5."""
    for seed in SEEDS:
        problem = Problem(3, seed)
        theirs, ours = problem.theirs("mgda")[0], problem.ours(WEIGHTINGS["mgda"](3))[0] / 3
        assert float(ours.norm()) <= float(theirs.norm()) * (1 + 1e-9)
        assert_equal(ours, theirs, 0.01)


def test_conflict_averse_gradients_are_the_same_or_help_the_worst_task_more():
    """LibMTL's solver stops at an absolute change of 1e-6, which is coarse for small gradients; ours has no unit."""
    apart = []
    for seed in SEEDS:
        problem = Problem(3, seed)
        theirs = problem.theirs("cagrad")[0] * (1 + C**2)
        ours, rows = problem.ours(WEIGHTINGS["cagrad"](3))
        # Both are in the same ball around the mean gradient.
        assert float((rows @ ours).min()) / 3 >= float((rows @ theirs).min()) - 1e-7
        apart.append(float((ours / 3 - theirs).norm() / theirs.norm()))
    assert median(apart) < 1e-5
    assert max(apart) < 0.2


def test_weights_by_norms_of_gradients_move_the_same_way_from_equal_ones():
    """LibMTL's are a softmax in the network's optimizer, from the second epoch on; ours have a rate of their own."""
    for seed in SEEDS:
        problem, weighting = Problem(3, seed), WEIGHTINGS["gradnorm"](3, weight_lr=1e-6).double()
        first = torch.rand(3) + 0.5

        def in_the_second_epoch(model, first=first):
            model.epoch, model.train_loss_buffer = 1, first[:, None].numpy()

        theirs, _, model = problem.theirs("gradnorm", prepare=in_the_second_epoch)
        ours = problem.ours(weighting)[0]
        assert_equal(ours, theirs)
        weighting.steps.fill_(1)
        weighting.first.copy_(first)
        weighting.after_step(problem.losses(problem.shared, problem.heads).detach())
        moved = weighting.current - 1
        assert float(nn.functional.cosine_similarity(moved, -model.loss_scale.grad, 0)) > 0.9999
