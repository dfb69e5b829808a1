import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.settings import build
from effxfer.stages.train.target_domain import evaluate_target
from effxfer.train.state import clone
from effxfer.transfer.domain_adaptation.dann import Dann, reverse
from effxfer.transfer.domain_adaptation.domain_batches import domain_features, frozen_statistics
from tests.transfer.domains import PLAIN, body, two_domains
from tests.transfer.tasks import CPU, accuracy, adapt, task


def made(given, **told):
    net, *_, rows = adapt(build(Dann, {**PLAIN, "width": 32, **told}, "o"), given, net=body(), epochs=6)
    return net, evaluate_target(net, given, CPU)["accuracy/target"].value, rows


@pytest.mark.slow
def test_the_other_domain_is_told_apart_better():
    """The claim, against the null setting: weight 0."""
    given = two_domains()
    net, reached, rows = made(given, weight=0.3)
    _, null, idle = made(given, weight=0.0)
    assert reached > null + 3
    assert accuracy(net, given) > 85, "the source is not forgotten"
    assert rows[-1]["domain"] > 2 * idle[-1]["domain"], "the discriminator is led astray"


def test_the_gradient_is_reversed():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (3 * reverse(x, 0.5)).sum().backward()
    assert x.grad.tolist() == [-1.5, -1.5]
    assert Dann(weight=0.5).reversal(0) == 0
    assert Dann(weight=0.5).reversal(1) == pytest.approx(0.5, abs=1e-4)


def test_the_discriminator_is_thrown_away():
    net, *_ = adapt(build(Dann, {**PLAIN, "width": 8}, "o"), task(), net=body(), epochs=1)
    assert type(net) is Net
    assert not [name for name in net.state_dict() if "discriminator" in name]


def test_separate_statistics_are_those_of_the_other_domain():
    net = body()
    norm = net.body.blocks[0][1]
    images, others = torch.randn(8, 3, 16, 16) + 5, torch.randn(8, 3, 16, 16)
    domain_features(net.train(), images, others, "separate")
    once = clone(norm)
    alone = body().train()
    alone.features(others)
    assert torch.equal(once["running_mean"], alone.body.blocks[0][1].running_mean)
    with frozen_statistics(net):
        net.features(images)
    assert torch.equal(clone(norm)["running_mean"], once["running_mean"])
    assert norm.momentum == 0.1


def test_without_another_domain_it_says_what_to_give():
    given = task()
    with pytest.raises(SettingsError, match="another domain") as caught:
        adapt(Dann(), type(given)(**{**vars(given), "unlabelled": None}))
    assert "data.target" in caught.value.hint
