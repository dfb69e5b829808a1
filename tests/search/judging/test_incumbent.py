import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.search.judging.incumbent import is_better
from effxfer.search.judging.metrics import row_score
from tests.search.tasks import corners, outputs, single, slopes

TRUE, THREE = np.arange(300) % 3, single(3)


def wrong(count, start=0):
    """Outputs of which `count` are wrong, from `start` on."""
    answers = TRUE.copy()
    answers[start : start + count] = (answers[start : start + count] + 1) % 3
    return np.eye(3, dtype=np.float32)[answers]


def asked(
    found, present, confidence=0.95, metric="accuracy", output=THREE, labels=TRUE, draws=1000, margin=0.0, seed=0
):
    scores = (row_score(output, raw, labels, metric) for raw in (found, present))
    return is_better(*scores, len(labels), margin=margin, draws=draws, confidence=confidence, seed=seed)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 300), st.sampled_from(["accuracy", "balanced_accuracy", "macro_f1"]))
def test_nothing_is_better_than_itself(errors, metric):
    assert not asked(wrong(errors), wrong(errors), metric=metric)


def test_much_better_is_better_and_one_image_is_not():
    assert asked(wrong(10), wrong(60, 100))
    assert not asked(wrong(60, 100), wrong(10))
    assert not asked(wrong(20), wrong(21, 100))


def test_no_confidence_asks_nothing():
    assert asked(wrong(60), wrong(10), confidence=0.0)


def test_chance_alone_seldom_passes():
    """Two heads that are equally good, with errors of their own: about 2 of 40 comparisons pass."""
    rng = np.random.default_rng(0)
    passed = 0
    for seed in range(40):
        one, other = (np.where(rng.random(300) < 0.1, (TRUE + 1) % 3, TRUE) for _ in range(2))
        passed += asked(*(np.eye(3, dtype=np.float32)[answers] for answers in (one, other)), seed=seed)
    assert passed <= 6


@pytest.mark.parametrize("make", [corners, slopes])
def test_several_labels_and_values_are_compared_by_their_metric(make):
    _, y = make()
    output, rng = outputs(y), np.random.default_rng(0)
    if make is corners:
        target = np.where(y == 255, 0, y).astype(np.float32)
    else:
        target = np.nan_to_num((y - np.array(output.mean)) / np.array(output.deviation)).astype(np.float32)
    good, poor = ((target + rng.normal(0, sigma, target.shape)).astype(np.float32) for sigma in (0.4, 0.8))
    shared = {"output": output, "labels": y, "metric": None, "draws": 200}
    assert asked(good, poor, **shared)
    assert not asked(poor, good, **shared)
    assert not asked(good, poor, **shared, margin=0.5)
    assert not asked(target, target + 1e-6 * good, **shared, margin=0.001)
    assert not asked(good, good, **shared)
