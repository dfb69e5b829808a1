import pytest
import torch

from effxfer.net.heads.prototypes import class_means, prototype_logits
from effxfer.transfer.few_shot.episodes import split_episode
from effxfer.transfer.few_shot.inner_loop import MetaLearner, classify, descend, normalized_by, norms_of, settle_
from effxfer.transfer.few_shot.prototypes import PrototypeNet
from tests.transfer.domains import body, task_of
from tests.transfer.tasks import adapt

GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture
def learner():
    net, *_ = adapt(PrototypeNet(way=3), task_of(range(3)), net=body(), epochs=0)
    return MetaLearner(net, 0)


def test_steps_by_hand():
    """A parabola: each step of rate 0.1 takes a fifth of the way."""
    weights, loss = descend(lambda w: w["x"].square().sum(), {"x": torch.tensor([1.0], requires_grad=True)}, 2, 0.1,
                            first_order=True)  # fmt: skip
    assert weights["x"].item() == pytest.approx(0.64)
    assert loss.item() == pytest.approx(0.64)


@pytest.mark.parametrize(("first_order", "expected"), [(False, 2 * 0.64 * 0.64), (True, 2 * 0.64)])
def test_the_gradient_passes_the_steps_in_second_order_only(first_order, expected):
    start = torch.tensor([1.0], requires_grad=True)
    weights, _ = descend(lambda w: w["x"].square().sum(), {"x": start}, 2, 0.1, first_order=first_order)
    (gradient,) = torch.autograd.grad(weights["x"].square().sum(), start)
    assert gradient.item() == pytest.approx(expected)


@pytest.mark.parametrize("first_order", [False, True])
def test_a_step_holds_the_other_weights_even_where_one_depends_on_the_other(first_order):
    body = torch.tensor([3.0], requires_grad=True)
    weights, _ = descend(lambda w: (w["x"] * w["y"]).sum(), {"x": body, "y": 2 * body}, 1, 0.1, first_order=first_order)
    assert weights["x"].item() == pytest.approx(3 - 0.1 * 6)
    assert weights["y"].item() == pytest.approx(6 - 0.1 * 3)
    (gradient,) = torch.autograd.grad(weights["x"].sum() + weights["y"].sum(), body)
    assert gradient.item() == pytest.approx(3 if first_order else 3 - 0.1 * 3)


def test_without_steps_weights_stay_and_masks_hold_them():
    start = {"x": torch.tensor([1.0, 1.0], requires_grad=True)}
    assert descend(lambda w: w["x"].sum(), start, 0, 0.1, first_order=True).weights is start
    keep = {"x": torch.tensor([True, False]), "other": torch.tensor([True])}
    weights, _ = descend(lambda w: w["x"].sum(), start, 1, 0.1, first_order=True, keep=keep)
    assert weights["x"].tolist() == pytest.approx([0.9, 1.0])


def test_the_classifier_starts_as_the_nearest_mean(learner):
    features, labels = torch.randn(6, 16, generator=GENERATOR), torch.arange(3).repeat_interleave(2)
    weights = learner.classifier(features, labels, 3)
    expected = prototype_logits(features, class_means(features, labels, 3))
    torch.testing.assert_close(classify(weights, features), expected)


def test_other_weights_give_other_features_and_stay_outside(learner):
    images = torch.randn(4, 3, 16, 16, generator=GENERATOR)
    before = learner.net.features(images)
    weights = {name: weight + 0.1 for name, weight in learner.body_weights().items()}
    assert not torch.allclose(learner.features(weights, images), before)
    torch.testing.assert_close(learner.features(learner.body_weights(), images), before)


def test_stored_statistics_make_images_independent(learner):
    images = torch.randn(4, 3, 16, 16, generator=GENERATOR)
    learner.train()
    for statistics, alike in (("stored", True), ("batch", False)):
        with normalized_by(learner.body, statistics):
            both, single = learner.net.features(images), learner.net.features(images[:2])
        assert torch.allclose(both[:2], single, atol=1e-5) == alike
        assert all(norm.training for norm in norms_of(learner.body))


@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
def test_the_device_gets_statistics_of_the_weights_that_stay(learner, batchnorm):
    given, net = task_of(range(3)), learner.net
    before = [norm.running_mean.clone() for norm in norms_of(net.body)]
    settle_(net, [given], batchnorm)
    after = [norm.running_mean for norm in norms_of(net.body)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True)) == (batchnorm == "frozen")


def test_an_episode_is_split_class_by_class():
    drawn = torch.arange(6).view(2, 3)[:, :, None]
    episode = split_episode(drawn, 1)
    assert episode.support.flatten().tolist() == [0, 3]
    assert episode.queries.flatten().tolist() == [1, 2, 4, 5]
    assert episode.support_labels.tolist() == [0, 1]
    assert episode.labels.tolist() == [0, 0, 1, 1]
    assert episode.way == 2
