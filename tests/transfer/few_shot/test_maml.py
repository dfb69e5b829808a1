import pytest
import torch

from effxfer.settings import build
from effxfer.stages.train.target_domain import evaluate_target
from effxfer.transfer.few_shot.episodes import split_episode
from effxfer.transfer.few_shot.inner_loop import MetaLearner
from effxfer.transfer.few_shot.maml import Maml
from effxfer.transfer.few_shot.prototypes import PrototypeNet
from tests.transfer.domains import body, new_classes, task_of
from tests.transfer.few_shot.conftest import EPISODES
from tests.transfer.tasks import CPU, adapt

GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.slow
def test_new_classes_are_told_apart_better(one_shot):
    """The claim, against the null setting: no episode."""
    assert one_shot(Maml, EPISODES).low > one_shot(Maml, EPISODES, epochs=0).high + 5


@pytest.mark.slow
def test_learned_starts_classify_behind_their_steps(digits, monkeypatch):
    """The paper's form, against the null setting: without a step, a classifier at a fixed place can only guess."""
    monkeypatch.setattr("effxfer.transfer.few_shot.episode_report.EPISODES", 60)
    told = {**EPISODES, "way": 4, "start": "learned", "inner_lr": 0.1, "first_order": True, "episodes": 60}
    reached = {}
    for steps in (3, 0):
        strategy = build(Maml, {**told, "steps": steps}, "options")
        net, *_ = adapt(strategy, digits, net=body(), epochs=0)
        torch.manual_seed(0)
        learner = strategy.prepare(net, [digits])
        optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], 0.003)
        for batch in strategy.draw(learner, [digits], CPU.torch)(0):
            optimizer.zero_grad()
            strategy.loss(learner.train(), batch, 0.0)["label"].backward()
            optimizer.step()
        reached[steps] = strategy.report(learner, [digits], CPU)["accuracy/target adapted transductive 4-way 5-shot"]
    assert reached[0].value < 35
    assert reached[3].low > reached[0].high + 20


@pytest.fixture
def learner():
    net, *_ = adapt(PrototypeNet(way=3), task_of(range(3)), net=body(), epochs=0)
    return MetaLearner(net, 0)


def test_without_steps_it_is_the_nearest_mean(learner):
    episode = split_episode(torch.randn(3, 4, 3, 16, 16, generator=GENERATOR), 2)
    support, queries = learner.net.features(episode.support), learner.net.features(episode.queries)
    logits = Maml(steps=0).answer(learner.eval(), episode)
    squares = torch.cdist(queries, support.unflatten(0, (3, 2)).mean(1)).square()
    torch.testing.assert_close(logits.softmax(1), (-squares).softmax(1))


def test_a_step_lowers_the_loss_of_the_support(learner):
    episode = split_episode(torch.randn(3, 6, 3, 16, 16, generator=GENERATOR), 5)
    again = episode._replace(queries=episode.support, labels=episode.support_labels)
    losses = [
        torch.nn.functional.cross_entropy(Maml(steps=steps, inner_lr=1e-3).answer(learner.eval(), again), again.labels)
        for steps in (0, 1, 3)
    ]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("statistics", ["batch", "stored"])
@pytest.mark.parametrize("start", ["means", "learned"])
@pytest.mark.parametrize("first_order", [False, True])
def test_every_weight_gets_a_gradient(learner, statistics, start, first_order):
    given = task_of(range(3))
    told = {**EPISODES, "way": 3, "statistics": statistics, "start": start, "first_order": first_order, "steps": 2}
    strategy = build(Maml, told, "options")
    learner = strategy.prepare(learner.net, [given])
    strategy.begin_epoch(learner, 0.0)
    strategy.loss(learner, strategy.draw(learner, [given], CPU.torch)(0)[0], 0.0)["label"].backward()
    trained = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trained.values())
    assert ("start.weight" in trained) == (start == "learned")


def test_figures_behind_steps_are_reported_beside_those_of_the_device(monkeypatch):
    monkeypatch.setattr("effxfer.transfer.few_shot.episode_report.EPISODES", 4)
    given = new_classes()
    strategy = build(Maml, {**EPISODES, "episodes": 2}, "options")
    net, *_ = adapt(strategy, given, net=body(), epochs=0)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    report = strategy.report(strategy.prepare(net, [given]), [given], CPU)
    assert [row.name for row in report.rows] == [
        f"accuracy/target {name} 4-way {shot}-shot" for name in ("adapted", "adapted transductive") for shot in (1, 5)
    ]
    assert report.rows[0].n == 4
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items() if "tracked" not in name)
    assert "accuracy/target 4-way 1-shot" in [row.name for row in evaluate_target(net, given, CPU).rows]
