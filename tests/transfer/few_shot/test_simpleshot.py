import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.net.heads.prototypes import class_means
from effxfer.settings import build
from effxfer.transfer.few_shot.simpleshot import SimpleShot
from effxfer.transfer.fine_tuning.linear import features_of
from tests.transfer.domains import PLAIN, body, task_of
from tests.transfer.tasks import CPU, adapt


def test_new_classes_are_told_apart_better(one_shot):
    """The claim, against the null setting: features as they are, on paper whose colour gives them lengths."""
    assert one_shot(SimpleShot, {}, epochs=0).low > one_shot(SimpleShot, {"transform": "none"}, epochs=0).high


@pytest.mark.parametrize("transform", ["none", "l2", "cl2n"])
def test_without_epochs_the_body_stays_and_the_head_is_solved(transform):
    given = task_of(range(4))
    net, before, after, _ = adapt(SimpleShot(transform=transform), given, net=body(), epochs=0)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("body."))
    features, labels = features_of(net, given)
    torch.testing.assert_close(net.head.out.weight.detach(), class_means(net.head.transform(features), labels, 4))
    lengths = net.head.transform(features).norm(dim=1)
    assert (transform == "none") == bool((lengths - 1).abs().max() > 1e-3)
    centred = features - features.mean(0)
    if transform == "cl2n":
        torch.testing.assert_close(net.head.transform(features), centred / centred.norm(dim=1, keepdim=True))


def test_an_epoch_is_judged_by_means_and_goes_on_from_the_classifier():
    given, strategy = task_of(range(4)), SimpleShot(**PLAIN)
    net, *_ = adapt(strategy, given, net=body(), epochs=1)
    weight = torch.randn_like(net.head.out.weight)
    net.head.out.weight.data.copy_(weight)
    assert strategy.judge(net, [given], CPU) > 60
    assert torch.equal(net.head.out.weight, weight)


def test_mixing_is_refused():
    with pytest.raises(SettingsError, match="blur what a mean"):
        build(SimpleShot, {"augment": {"mixup": 0.2}}, "options")
