"""The measures of difference between domains: exact cases and invariants."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.transfer.domain_adaptation.a_distance import a_distance
from effxfer.transfer.domain_adaptation.cdan import LARGEST_PRODUCT, ConditionalClassifier, certainty_weights
from effxfer.transfer.domain_adaptation.coral import covariance, covariance_distance, match_covariance
from effxfer.transfer.domain_adaptation.dan import mean_discrepancy
from effxfer.transfer.domain_adaptation.mcc import class_confusion
from effxfer.transfer.domain_adaptation.self_training import surest_labels
from tests.transfer.domains import vector_body


def draw(*shape, seed=0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_covariances_are_matched_in_closed_form():
    source, target = (
        draw(4000, 3) @ torch.diag(torch.tensor([30.0, 10.0, 50.0])),
        20 * draw(4000, 3, seed=1) @ draw(3, 3),
    )
    aligned = match_covariance(source, target + 7)
    torch.testing.assert_close(aligned.mean(0), (target + 7).mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(covariance(aligned), covariance(target), rtol=0.1, atol=20)
    assert covariance_distance(aligned, target) < 1e-3 * covariance_distance(source, target)


def test_the_distance_of_covariances_by_hand():
    source, target = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    assert covariance_distance(source, target) == (2 - 8) ** 2 / 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 5))
def test_the_discrepancy_is_no_difference_at_0_and_grows_with_a_shift(seed, shift):
    x = draw(20, 4, seed=seed)
    assert mean_discrepancy(x, x).abs() < 1e-6
    nearer, farther = mean_discrepancy(x, x + shift), mean_discrepancy(x, x + 3 * shift)
    assert 0 < nearer < farther
    torch.testing.assert_close(mean_discrepancy(10 * x, 10 * (x + shift)), nearer, rtol=1e-3, atol=1e-4)


def test_sure_answers_confuse_nothing_and_equal_ones_everything():
    sure = torch.eye(3).repeat(4, 1) * 1000
    assert class_confusion(sure, 2.5) == 0
    torch.testing.assert_close(class_confusion(torch.zeros(6, 3), 2.5), torch.tensor(2 / 3))


def test_certainty_has_the_mean_1_in_each_domain():
    answers = draw(10, 4).softmax(1)
    weights = certainty_weights(answers, 6)
    torch.testing.assert_close(weights[:6].mean(), torch.tensor(1.0))
    torch.testing.assert_close(weights[6:].mean(), torch.tensor(1.0))
    entropy = -(answers * answers.log()).sum(1)
    assert weights[:6].argmax() == entropy[:6].argmin()


def test_the_outer_product_or_a_projection_of_it():
    net = vector_body((16,))
    exact = ConditionalClassifier(net, 2, 3, 8)
    assert exact.combine(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5, 0.0]])).tolist() == [
        [0.5, 0.5, 0, 1, 1, 0]
    ]
    random = ConditionalClassifier(net, 2000, 3, 8)
    features, answers = draw(40, 2000), draw(40, 3, seed=1).softmax(1)
    projected = random.combine(features, answers)
    assert projected.shape == (40, LARGEST_PRODUCT)
    kernel = (features @ features.mT) * (answers @ answers.mT)
    assert torch.corrcoef(torch.stack([(projected @ projected.mT).flatten(), kernel.flatten()]))[0, 1] > 0.95


def test_pseudo_labels_have_the_share_of_each_class():
    answers = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert surest_labels(answers, 0.5, None).tolist() == [0, 0, -1, -1]
    assert surest_labels(answers, 0.5, [0.5, 0.5]).tolist() == [0, -1, -1, 1]
    assert surest_labels(answers, 1.0, [0.5, 0.5]).tolist() == [0, 0, 1, 1]
    assert surest_labels(answers, 0.0, [0.5, 0.5]).tolist() == [-1] * 4


def test_domains_that_cannot_be_told_apart_have_no_distance():
    assert a_distance(draw(400, 5), draw(400, 5, seed=1)) < 0.35
    assert a_distance(draw(400, 5), draw(300, 5, seed=1) + 10) == 2
    near, far = (a_distance(draw(400, 5), draw(400, 5, seed=1) + shift) for shift in (0.3, 1.0))
    assert near < far


def test_the_distance_repeats():
    assert a_distance(draw(50, 3), draw(70, 3, seed=1)) == a_distance(draw(50, 3), draw(70, 3, seed=1))
    assert math.isfinite(a_distance(torch.zeros(5, 2), torch.zeros(5, 2)))
    assert a_distance(torch.zeros(5, 2), torch.zeros(5, 2)) == pytest.approx(0, abs=2)
