import pytest
import torch
from torch.nn import functional as F

from effxfer.settings import build
from effxfer.transfer.few_shot.episodes import split_episode
from effxfer.transfer.few_shot.inner_loop import classify
from effxfer.transfer.few_shot.reptile import Reptile
from tests.transfer.domains import body, task_of
from tests.transfer.few_shot.conftest import EPISODES
from tests.transfer.tasks import CPU, adapt


@pytest.mark.slow
def test_new_classes_are_told_apart_better(one_shot):
    """The claim, against the null setting: no episode."""
    assert one_shot(Reptile, EPISODES).low > one_shot(Reptile, EPISODES, epochs=0).high + 5


@pytest.mark.parametrize("start", ["means", "learned"])
def test_the_gradient_is_the_move(start):
    """With one step, the move over the rate is the gradient of the loss on all images of the episode."""
    given = task_of(range(4))
    strategy = build(Reptile, {**EPISODES, "way": 4, "steps": 1, "start": start}, "options")
    net, *_ = adapt(strategy, given, net=body(), epochs=0)
    learner = strategy.prepare(net, [given]).eval()
    images = strategy.draw(learner, [given], CPU.torch)(0)[0]
    terms = strategy.loss(learner, images, 0.0)
    assert terms["move"].item() == 0
    terms["move"].backward()
    moved = {name: p.grad.clone() for name, p in learner.named_parameters() if p.requires_grad}
    learner.zero_grad()
    episode = split_episode(images[0], strategy.shot)
    with torch.no_grad():
        features = learner.features({}, episode.support)
    head = learner.classifier(features, episode.support_labels, 4)
    features = learner.features({}, torch.cat([episode.support, episode.queries]))
    F.cross_entropy(classify(head, features), torch.cat([episode.support_labels, episode.labels])).backward()
    assert terms["label"].item() == pytest.approx(
        F.cross_entropy(classify(head, features), torch.cat([episode.support_labels, episode.labels])).item(), rel=1e-4
    )
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(moved[name], parameter.grad, rtol=1e-2, atol=1e-4)
