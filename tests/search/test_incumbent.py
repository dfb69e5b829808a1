import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.search.incumbent import is_better

TRUE = torch.arange(300) % 3


def wrong(count, start=0):
    """Answers of which `count` are wrong, from `start` on."""
    answers = TRUE.clone()
    answers[start : start + count] = (answers[start : start + count] + 1) % 3
    return answers


def asked(found, present, confidence=0.95, metric="accuracy", seed=0):
    return is_better(found, present, TRUE, metric=metric, confidence=confidence, seed=seed)


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
    generator = torch.Generator().manual_seed(0)
    passed = 0
    for seed in range(40):
        one, other = (torch.where(torch.rand(300, generator=generator) < 0.1, (TRUE + 1) % 3, TRUE) for _ in range(2))
        passed += asked(one, other, seed=seed)
    assert passed <= 6
