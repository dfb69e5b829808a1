import numpy as np
import pytest

from effxfer.stages.train.zero_shot.generalized import Scored, best_constant, harmonic_mean, per_class_accuracy


def scored(gap: float = 1.0, seed: int = 0, count: int = 200) -> Scored:
    """Two known and two new classes; known ones are ahead by a gap."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2

    def logits(shift: int):
        own = np.eye(4)[labels + shift] + 0.3 * rng.normal(size=(count, 4))
        own[:, :2] += gap
        return own.astype(np.float32)

    return Scored(
        seen_logits=logits(0), seen_labels=labels, unseen_logits=logits(2), unseen_labels=labels + 2, known_count=2
    )


def test_accuracies_are_means_over_classes():
    logits = np.float32([[1, 0], [1, 0], [1, 0], [1, 0]])
    assert per_class_accuracy(logits, np.array([0, 0, 0, 1])) == 50
    assert harmonic_mean(0.0, 90.0) == 0
    assert harmonic_mean(0.0, 0.0) == 0


def test_a_constant_trades_known_for_new_classes():
    given = scored(gap=2.0)
    curve = given.curve()
    assert curve[0][0] == 0, "all examples are taken for known ones"
    assert curve[-1][1] == 0, "all examples are taken for new ones"
    unseen, seen = np.array(curve).T
    assert (np.diff(unseen) >= 0).all()
    assert (np.diff(seen) <= 0).all()
    assert given.harmonic_mean(0) < 20 < 80 < given.harmonic_mean(2)


def test_the_best_constant_undoes_the_gap():
    assert best_constant([scored(gap=2.0, seed=s) for s in range(3)]) == pytest.approx(2, abs=0.3)
    assert best_constant([scored(gap=0.0, seed=s) for s in range(3)]) == pytest.approx(0, abs=0.3)


def test_the_area_does_not_depend_on_the_gap():
    assert scored(gap=0.0).area() == pytest.approx(scored(gap=3.0).area(), abs=0.1)


def test_the_area_of_perfect_answers_is_whole():
    perfect = Scored(
        seen_logits=np.float32([[1, 0, 0], [0, 1, 0]]), seen_labels=np.array([0, 1]),
        unseen_logits=np.float32([[0, 0, 1]]),
        unseen_labels=np.array([2]), known_count=2,
    )  # fmt: skip
    assert perfect.area() == 100
    assert perfect.accuracies(0.0) == (100, 100)
