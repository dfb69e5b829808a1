from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.transfer.text.setfit import SetFit, partners
from tests.transfer.tasks import CPU, accuracy, adapt, body, task


@given(st.integers(2, 30), st.integers(0, 999))
def test_partners_are_of_the_same_class_or_of_another_as_asked(n, seed):
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 3, n)]
    first, alike = rng.integers(0, len(labels), 40), rng.random(40) < 0.5
    second = partners(labels, first, alike, rng)
    assert ((labels[first] == labels[second]) == alike).all()
    sizes = np.bincount(labels)
    assert ((first != second) | (sizes[labels[first]] == 1)).all()


def test_half_of_the_pairs_of_an_epoch_are_alike_and_every_example_is_first_as_often():
    small, net = task(count=8), body()
    strategy = SetFit(pairs=3, batch=4)
    epoch = strategy.draw(net, [small], torch.device("cpu"))(0)
    alike = torch.cat([batch[-1] for batch in epoch])
    assert len(alike) == 2 * 3 * 8
    assert alike.mean() == 0.5


def test_an_example_that_is_in_several_pairs_is_computed_once_and_gives_the_same_loss():
    small, net = task(count=6), body().eval()
    (batch, *_) = SetFit(pairs=4, batch=16).draw(net, [small], torch.device("cpu"))(0)
    seen, features = [], net.features
    net.features = lambda x: seen.append(len(x)) or features(x)
    loss = SetFit().loss(net, batch, 0.0)["pairs"]
    first, second, *_, alike = batch
    cosine = torch.nn.functional.cosine_similarity(features(first), features(second))
    assert seen == [6]
    assert float(loss.detach()) == pytest.approx(float((cosine - alike).square().mean().detach()), abs=1e-5)


def test_no_pairs_are_a_probe():
    """The null setting: the body stays, and the head is the solved one."""
    small, before = task(count=16), body()
    net, *_ = adapt(SetFit(pairs=0), small, net=deepcopy(before), epochs=1)
    assert all(torch.equal(tensor, before.body.state_dict()[name]) for name, tensor in net.body.state_dict().items())


@pytest.mark.slow
def test_pairs_of_few_labels_teach_more_than_a_probe_of_random_features():
    """The claim, against the null setting on the same labels, mean of three drawn networks."""
    few, scores = task(count=8), {}
    for pairs in (0, 10):
        nets = [adapt(SetFit(pairs=pairs), few, net=body(seed), epochs=2)[0] for seed in range(3)]
        scores[pairs] = np.mean([accuracy(net, few) for net in nets])
    assert scores[10] > scores[0] + 10


def test_one_class_cannot_be_compared():
    small = task(count=8)
    small.train.labels[:] = 0
    with pytest.raises(SettingsError, match="setfit compares classes"):
        SetFit().draw(body(), [small], CPU.torch)


@pytest.mark.parametrize("options", [{"augment": {"flip": False}}, {"balance": 1.0}])
def test_settings_without_an_effect_are_refused(options):
    with pytest.raises(SettingsError, match="has no effect on setfit"):
        build(SetFit, options, "options")
