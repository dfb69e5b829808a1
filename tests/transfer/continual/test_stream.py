"""What every strategy of tasks in time promises."""

import pytest
import torch

from effxfer.artifact import Artifact, save
from effxfer.report import Report
from effxfer.stages.settings.base import CONTINUAL
from effxfer.train.state import Work
from effxfer.transfer import STRATEGIES
from effxfer.transfer.base import Strategy
from tests.transfer.continual.streams import class_task, learn

OPTIONS = {
    "ewc": {"samples": 20},
    "gdumb": {"memory": 40},
    "icarl": {"memory": 20},
    "replay": {"memory": 20},
    "der": {"memory": 20},
}
BRIEF = {"epochs": 2}


class KilledError(Exception):
    pass


def test_the_names_are_those_of_the_table():
    assert set(CONTINUAL) == {name for name, cls in STRATEGIES.items() if cls.continual}


def through_files(net, folder):
    """The network as another process reads it."""
    folder.mkdir()
    facts = {"key": "k", "stage": "continual", "settings": {}, "parent": "p", "report": Report()}
    save(folder, net, **facts)
    return Artifact.load(folder).net()


def same(net, other):
    state, others = net.state_dict(), other.state_dict()
    assert state.keys() == others.keys()
    assert all(torch.equal(state[name], others[name]) for name in state)
    assert net.memory.tasks == other.memory.tasks
    assert net.memory.facts == other.memory.facts
    assert net.memory.tensors.keys() == other.memory.tensors.keys()
    for name, tensor in net.memory.tensors.items():
        assert torch.equal(tensor.nan_to_num(-1), other.memory.tensors[name].nan_to_num(-1)), name


@pytest.mark.parametrize("name", CONTINUAL)
def test_the_next_month_in_another_process_equals_one_long_run(name, tmp_path):
    tasks = [class_task(number) for number in range(3)]
    options = OPTIONS.get(name, {})
    whole, _ = learn(name, tasks, fit=BRIEF, **options)
    march, _ = learn(name, tasks[:2], fit=BRIEF, **options)
    april, _ = learn(name, tasks[2:], net=through_files(march, tmp_path / "march"), fit=BRIEF, **options)
    same(whole, april)


@pytest.mark.parametrize("name", [name for name in CONTINUAL if not STRATEGIES[name].solves])
def test_goes_on_bit_for_bit_after_it_was_killed_in_a_rehearsal(name, tmp_path, monkeypatch):
    tasks, options = [class_task(number) for number in range(2)], OPTIONS.get(name, {})
    whole, _ = learn(name, tasks, fit=BRIEF, **options)
    begun = []

    def begin(self, learner, progress):
        begun.append(progress)
        if len(begun) == 4:  # the second epoch of the second task
            raise KilledError
        Strategy.begin_epoch(self, learner, progress)

    with monkeypatch.context() as patch:
        patch.setattr(STRATEGIES[name], "begin_epoch", begin)
        with pytest.raises(KilledError):
            learn(name, tasks, fit=BRIEF, work=Work(tmp_path / "work"), **options)
    again, _ = learn(name, tasks, fit=BRIEF, work=Work(tmp_path / "work"), **options)
    same(whole, again)
