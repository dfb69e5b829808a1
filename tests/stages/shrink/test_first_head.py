import pytest
import torch

from effxfer.model_source import open_model
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.shrink import first_head
from effxfer.stages.shrink.first_head import give_head, solve_head_
from effxfer.stages.train.head import new_head
from effxfer.train.devices import pick_device
from effxfer.train.evaluate import score
from effxfer.train.state import Work
from effxfer.transfer.fine_tuning.linear import solve_
from tests import tiny

CPU = pick_device("cpu")


@pytest.fixture
def net():
    return open_model(tiny.BACKBONE)[0]


@pytest.fixture
def task(net, data, tmp_path):
    return load_task(data, net.input, RunContext(out=tmp_path / "out", cache=tmp_path / "cache"))


def test_it_answers_before_any_training_and_the_body_stays(net, task, tmp_path):
    null = open_model(tiny.BACKBONE)[0]
    new_head(null, task, 0)
    before = {name: value.clone() for name, value in net.body.state_dict().items()}
    assert give_head(net, task, 0, CPU, Work(tmp_path), "head-1")
    assert all(torch.equal(value, before[name]) for name, value in net.body.state_dict().items())
    assert score(net, task.val, CPU) >= score(null, task.val, CPU) + 20


def test_a_head_that_answers_the_task_stays(net, task, tmp_path):
    new_head(net, task, 3)
    weight = net.head.state_dict()["out.weight"].clone()
    assert not give_head(net, task, 0, CPU, Work(tmp_path), "head-1")
    assert torch.equal(net.head.state_dict()["out.weight"], weight)


def test_a_resumed_run_takes_the_saved_head(net, task, tmp_path, monkeypatch):
    give_head(net, task, 0, CPU, Work(tmp_path), "head-1")
    monkeypatch.setattr(first_head, "solve_", None)
    again = open_model(tiny.BACKBONE)[0]
    assert give_head(again, task, 0, CPU, Work(tmp_path), "head-1")
    assert all(
        torch.equal(value, net.head.state_dict()[name]) for name, value in again.head.state_dict().items()
    )  # fmt: skip


def test_a_body_that_gives_other_features_needs_a_head_of_its_own(net, task, tmp_path):
    give_head(net, task, 0, CPU, Work(tmp_path), "head-1")
    net.body.register_forward_hook(lambda _module, _inputs, features: -features)
    null = score(net, task.val, CPU)
    reached = solve_head_(net, task, 0)
    assert reached == score(net, task.val, CPU) >= null + 20


def test_of_the_weight_decays_the_one_that_serves_validation_is_kept(net, task, monkeypatch):
    tried = []

    def solve(head, _features, _labels, l2, _output):
        # A head that finds class 0 everywhere, but for one weight decay.
        tried.append(l2)
        solve_(head, _features, _labels, 1e-3, _output)
        if l2 != 1e-2:
            head.out.bias.data[0] += 1e6

    monkeypatch.setattr(first_head, "solve_", solve)
    new_head(net, task, 0)
    assert solve_head_(net, task, 0) == score(net, task.val, CPU) >= 60
    assert tried == list(first_head.WEIGHT_DECAYS)
