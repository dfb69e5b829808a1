"""Values against the definitions, computed another way; and what every score must do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from effxfer.transferability import SCORES
from effxfer.transferability.h_score import h_score
from effxfer.transferability.leep import leep
from effxfer.transferability.linear import cross_validated_scores, linear
from effxfer.transferability.logme import logme
from effxfer.transferability.neighbours import neighbours


def blobs(seed=0, n=60, width=12, classes=3, apart=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    means = rng.normal(size=(classes, width)) * apart
    return means[labels] + rng.normal(size=(n, width)), labels


@pytest.mark.parametrize(("n", "width"), [(40, 6), (15, 30)])
def test_logme_is_the_largest_evidence_of_the_definition(n, width):
    features, labels = blobs(1, n, width)

    def evidence(y):
        def minus(logs):
            alpha, beta = np.exp(logs)
            spread = np.eye(n) / beta + features @ features.T / alpha
            return -multivariate_normal(np.zeros(n), spread).logpdf(y)

        return -min(minimize(minus, start, method="Nelder-Mead").fun for start in ([0, 0], [2, 2], [-2, 1]))

    told = np.mean([evidence((labels == c).astype(float)) for c in range(3)]) / n
    assert logme(features, labels) == pytest.approx(told, abs=2e-4)


def test_leep_is_its_definition_in_loops():
    rng = np.random.default_rng(2)
    source, labels = rng.dirichlet(np.ones(4), 30), rng.integers(0, 3, 30)
    total = 0.0
    for i in range(30):
        likely = 0.0
        for z in range(4):
            both = sum(source[j, z] for j in range(30) if labels[j] == labels[i]) / 30
            likely += both / (source[:, z].sum() / 30) * source[i, z]
        total += np.log(likely) / 30
    assert leep(source, labels) == pytest.approx(total)


def test_leep_of_a_source_that_knows_the_classes_and_of_one_that_knows_nothing():
    labels = np.arange(30) % 3
    assert leep(np.eye(3)[labels], labels) == pytest.approx(0)
    assert leep(np.full((30, 4), 0.25), labels) == pytest.approx(-np.log(3))


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_h_score_is_the_trace_of_its_definition(shrinkage):
    features, labels = blobs(3)
    spread = np.cov(features.T, bias=True)
    spread = (1 - shrinkage) * spread + shrinkage * np.trace(spread) / len(spread) * np.eye(len(spread))
    means = np.stack([features[labels == c].mean(0) for c in labels])
    told = (1 - shrinkage) * np.trace(np.linalg.inv(spread) @ np.cov(means.T, bias=True))
    assert h_score(features, labels, shrinkage=shrinkage) == pytest.approx(told)


@given(st.integers(0, 1000))
def test_h_score_lies_between_nothing_and_the_classes_less_one(seed):
    features, labels = blobs(seed, apart=seed / 200)
    assert 0 <= h_score(features, labels) <= h_score(features, labels, shrinkage=0) <= 2 + 1e-9


def test_neighbours_of_an_image_are_others_than_itself():
    labels = np.array([0, 1, 0, 1])
    features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    assert neighbours(features, labels) == 0


@pytest.mark.parametrize("name", SCORES)
def test_features_that_tell_the_classes_are_worth_more(name):
    near, apart, labels = blobs(apart=0.1)[0], *blobs(apart=3)
    assert SCORES[name](apart, labels) > SCORES[name](near, labels)


@pytest.mark.parametrize("name", SCORES)
def test_order_and_scale_of_images_do_not_matter(name):
    features, labels = blobs(4, n=90)
    first = SCORES[name](features, labels)
    order = np.random.default_rng(0).permutation(len(labels))
    loose = {"nleep": 0.2, "linear": 5.0}
    assert SCORES[name](features[order], labels[order]) == pytest.approx(first, abs=loose.get(name, 1e-6))
    if name != "logme":
        assert SCORES[name](8 * features, labels) == pytest.approx(first, abs=loose.get(name, 1e-6))


@pytest.mark.parametrize("name", SCORES)
def test_few_images_of_many_features(name):
    features, labels = blobs(5, n=9, width=64, apart=2)
    assert np.isfinite(SCORES[name](features, labels))


def test_a_linear_probe_is_judged_on_what_it_has_not_seen():
    rng = np.random.default_rng(6)
    assert linear(rng.normal(size=(60, 80)), np.arange(60) % 3) < 55


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2]])
def test_two_images_of_each_class_are_held_out_in_turn(labels):
    y = np.array(labels)
    assert linear(np.eye(3)[y] + 0.01 * np.arange(len(y))[:, None], y) == 100


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 0, 0, 1], [1, 0, 2]])
def test_a_class_that_is_held_out_whole_is_not_found(labels):
    y = np.array(labels)
    scores = cross_validated_scores(np.eye(3)[y], y)
    assert np.isfinite(scores).all()
    assert (scores.argmax(1) != y)[[labels.index(one) for one in set(labels) if labels.count(one) == 1]].all()


@pytest.mark.parametrize("score", sorted(SCORES))
def test_every_score_is_a_number_for_four_images(score):
    rng = np.random.default_rng(0)
    assert np.isfinite(SCORES[score](rng.normal(size=(4, 16)), np.array([0, 0, 1, 1])))
