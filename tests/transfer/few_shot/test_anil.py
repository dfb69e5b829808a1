import pytest
import torch

from effxfer.settings import build
from effxfer.transfer.few_shot.anil import Anil
from effxfer.transfer.few_shot.prototypes import PrototypeNet
from tests.transfer.domains import body, task_of
from tests.transfer.few_shot.conftest import EPISODES
from tests.transfer.tasks import CPU, adapt


@pytest.mark.slow
def test_new_classes_are_told_apart_better(one_shot):
    """The claim, against the null setting: no episode."""
    assert one_shot(Anil, EPISODES).low > one_shot(Anil, EPISODES, epochs=0).high + 5


def test_without_steps_it_is_prototypes():
    given, told = task_of(range(4)), {**EPISODES, "way": 4}
    anil, prototypes = build(Anil, {**told, "steps": 0}, "options"), build(PrototypeNet, told, "options")
    net, *_ = adapt(prototypes, given, net=body(), epochs=0)
    images = prototypes.draw(net, [given], CPU.torch)(0)[0]
    gradients = []
    for strategy, learner in ((prototypes, net), (anil, anil.prepare(net, [given]))):
        net.zero_grad()
        strategy.loss(learner.train(), images, 0.0)["label"].backward()
        gradients.append([p.grad.clone() for p in net.body.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


def test_steps_change_the_answers_and_not_the_body():
    given = task_of(range(4))
    strategies = [build(Anil, {**EPISODES, "way": 4, "steps": steps}, "options") for steps in (0, 5)]
    net, *_ = adapt(strategies[0], given, net=body(), epochs=0)
    learner = strategies[0].prepare(net, [given])
    images = strategies[0].draw(learner, [given], CPU.torch)(0)[0]
    before = [weight.clone() for weight in net.body.parameters()]
    none, some = (float(each.loss(learner, images, 0.0)["label"].detach()) for each in strategies)
    assert none != some
    assert all(torch.equal(*pair) for pair in zip(before, net.body.parameters(), strict=True))
