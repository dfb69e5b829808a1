import numpy as np

from effxfer.deploy.export.few_shot.unknown_classes import Nearness, choose_threshold, draw_nearness


def test_the_threshold_lies_between_what_is_known_and_what_is_not():
    assert choose_threshold(Nearness(np.array([-1.0, -2.0]), np.array([-4.0, -5.0]))) == -3
    mixed = choose_threshold(Nearness(np.array([-1.0, -1.0, -6.0]), np.array([-2.0, -4.0, -5.0])))
    assert mixed == -1.5, "two of three known, three of three unknown"


def clouds(classes, count, width=16, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(classes).repeat(count)
    means = 4 * np.random.default_rng(1).normal(size=(classes, width))
    return (means[labels] + rng.normal(size=(len(labels), width))).astype(np.float32), labels


def test_enrolled_classes_are_nearer_and_the_same_seed_gives_the_same_episodes():
    scores = draw_nearness(clouds(10, 6), clouds(10, 2, seed=1), "euclidean", 5, 5)
    assert len(scores.enrolled) == len(scores.unknown) == 1000
    limit = choose_threshold(scores)
    assert (scores.enrolled >= limit).mean() > 0.99
    assert (scores.unknown < limit).mean() > 0.99
    again = draw_nearness(clouds(10, 6), clouds(10, 2, seed=1), "euclidean", 5, 5)
    assert np.array_equal(scores.enrolled, again.enrolled)
    single = draw_nearness(clouds(10, 6), clouds(10, 2, seed=1), "euclidean", 5, 1)
    assert single.enrolled.mean() < scores.enrolled.mean(), "a mean is nearer than a single image"


def test_classes_without_images_on_one_side_take_no_part():
    support, (features, labels) = clouds(8, 3), clouds(8, 2, seed=1)
    kept = labels != 0
    scores = draw_nearness(support, (features[kept], labels[kept]), "euclidean", 3, 2)
    assert scores.enrolled.min() > scores.unknown.max()


def test_too_few_classes_or_images_give_none():
    assert draw_nearness(clouds(3, 6), clouds(3, 2), "euclidean", 2, 1) is None
    assert draw_nearness(clouds(4, 4), clouds(4, 2), "euclidean", 2, 5) is None
    assert draw_nearness(clouds(1, 4), clouds(1, 2), "euclidean", 0, 1) is None
