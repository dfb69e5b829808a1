"""The closed formulas and the losses, against what they should be worked out by hand or by another way."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from effxfer.errors import SettingsError
from effxfer.net.heads.compare import Compare
from effxfer.settings import build
from effxfer.transfer import STRATEGIES
from effxfer.transfer.zero_shot.ale import ranking_loss
from effxfer.transfer.zero_shot.dap import solve_attributes_
from effxfer.transfer.zero_shot.devise import hinge_loss
from effxfer.transfer.zero_shot.eszsl import bilinear_form
from effxfer.transfer.zero_shot.known_classes import fit_scale_
from effxfer.transfer.zero_shot.sae import tied_autoencoder
from tests.transfer.tasks import adapt
from tests.transfer.zero_shot.attributes import body, described

RNG = torch.Generator().manual_seed(0)
X = torch.randn(40, 6, generator=RNG, dtype=torch.double)
LABELS = torch.arange(40) % 5
TABLE = F.normalize(torch.randn(5, 4, generator=RNG, dtype=torch.double), dim=1)


def test_eszsl_minimises_its_four_terms():
    """The paper's objective: squared error, both one-sided penalties, and the one of the form itself."""
    gamma, lambda_ = 0.3, 0.5
    form = bilinear_form(X, LABELS, TABLE, gamma, lambda_).requires_grad_()
    signs = 2 * F.one_hot(LABELS, 5) - 1
    g, k = gamma * 40, lambda_ * 5 / 4
    loss = (X @ form @ TABLE.mT - signs).square().sum() + g * (form @ TABLE.mT).square().sum()
    loss = loss + k * (X @ form).square().sum() + g * k * form.square().sum()
    loss.backward()
    assert float(form.grad.abs().max()) < 1e-9


def test_sae_solves_its_equation():
    codes, weight = TABLE[LABELS], 0.7
    w = tied_autoencoder(X, codes, weight)
    s = codes * 2  # the root of its width
    left = s.mT @ s @ w + weight * w @ (X.mT @ X)
    torch.testing.assert_close(left, (1 + weight) * s.mT @ X)


def head_of(form: str, classes: int = 5, width: int = 4) -> Compare:
    head = Compare(form, 6, classes, width)
    head.table.copy_(torch.rand(classes, width, generator=RNG))
    head.centre.copy_(head.table.mean(0))
    head.prior.copy_(torch.randn(width, generator=RNG))
    return head.eval()


@torch.no_grad()
def test_dap_is_the_product_of_the_chances_of_attributes():
    head, x = head_of("direct"), torch.randn(7, 6, generator=RNG)
    new = torch.rand(3, 4, generator=RNG)
    present, chance, prior = head.prepare(new), head.map(head.standardize(x)).sigmoid(), head.prior.sigmoid()
    assert set(present.flatten().tolist()) <= {0, 1}
    each = torch.where(present[None] > 0, chance[:, None] / prior, (1 - chance[:, None]) / (1 - prior))
    torch.testing.assert_close(head.compare(x, new).softmax(1), each.prod(2) / each.prod(2).sum(1, keepdim=True))


@torch.no_grad()
def test_iap_sums_the_known_classes_that_have_an_attribute():
    head, x = head_of("indirect"), torch.randn(7, 6, generator=RNG)
    known = head.map(head.standardize(x)).softmax(1)
    chance = torch.stack([known[:, head.prepare(head.table)[:, m] > 0].sum(1) for m in range(4)], 1)
    torch.testing.assert_close(head.attribute_odds(head.map(x)).sigmoid(), chance.clamp(1e-3, 1 - 1e-3))


@torch.no_grad()
def test_a_reconstruction_is_compared_in_the_space_of_features():
    head, x = head_of("reconstruction"), torch.randn(7, 6, generator=RNG)
    decoded = head.prepare(head.table) @ head.map.weight
    torch.testing.assert_close(head(x), F.cosine_similarity(x[:, None], decoded[None], dim=2))


def test_ale_weighs_mistakes_by_their_rank():
    logits = torch.tensor([[1.0, 0.9, 0.5, -5.0], [0.0, 9.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1])
    # Two classes are less than 1 below: 0.9 and 0.5, by (1 + 1/2) / 2 each.
    assert float(ranking_loss(logits, labels, 1.0)) == pytest.approx(0.75 * (0.9 + 0.5) / 2)
    assert float(hinge_loss(logits, labels, 1.0)) == pytest.approx((0.9 + 0.5) / 2)


def test_attributes_are_logistic_regressions_of_their_own():
    layer, present = torch.nn.Linear(6, 2), (X[:, :2] > 0).float()
    solve_attributes_(layer, X.float(), present, 0.1)
    first = torch.nn.Linear(6, 1)
    solve_attributes_(first, X.float(), present[:, :1], 0.1)
    torch.testing.assert_close(layer.weight[:1], first.weight, atol=1e-3, rtol=1e-2)


def test_an_attribute_of_all_known_classes_says_nothing():
    given = described(6, 2, 10)
    given.class_embeddings[:, 3] = 0.5
    net, *_ = adapt(build(STRATEGIES["dap"], {}, "o"), given, net=body(given))
    head = net.head
    assert head.map.weight[3].tolist() == [0] * head.map.in_features
    assert head.map.bias[3].item() == head.prior[3].item()


def test_the_scale_makes_probabilities_likely():
    head = head_of("product")
    x = torch.randn(400, 6, generator=RNG)
    labels = torch.distributions.Categorical(logits=7.0 * head(x)).sample()
    assert fit_scale_(head, x, labels) == pytest.approx(7, rel=0.3)


@pytest.mark.parametrize("name", ["ale", "dap", "devise", "eszsl", "iap", "sae"])
def test_what_it_does_not_read_is_refused(name):
    with pytest.raises(SettingsError, match="augment has no effect"):
        build(STRATEGIES[name], {"augment": {"flip": False}}, "o")
    if STRATEGIES[name].solves:
        with pytest.raises(SettingsError, match="batch has no effect"):
            build(STRATEGIES[name], {"batch": 8}, "o")


def test_rows_of_classes_are_needed():
    given = described(6, 2, 10)
    bare = given.__class__(**{**vars(given), "class_embeddings": None})
    with pytest.raises(SettingsError, match="says nothing about its classes"):
        adapt(build(STRATEGIES["eszsl"], {}, "o"), bare, net=body(given))


def test_the_table_of_a_head_is_that_of_the_task():
    given = described(6, 2, 10)
    net, *_ = adapt(build(STRATEGIES["eszsl"], {}, "o"), given, net=body(given))
    assert np.array_equal(net.head.table.numpy(), given.class_embeddings)
    assert float(net.head.scale) == 1
