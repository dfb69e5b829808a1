"""Each method against plain fine-tuning on one task after another."""

import pytest
import torch

from tests.transfer.continual.streams import class_task, learn

TASKS = [class_task(number) for number in range(3)]
PULLED = {"ewc": {"weight": 10.0, "samples": 60}, "lwf": {}, "si": {"weight": 10.0}}
REHEARSED = {
    "der": {"memory": 30},
    "gdumb": {"memory": 60},
    "icarl": {"memory": 30},
    "nearest_mean": {},
    "replay": {"memory": 30},
}


@pytest.fixture(scope="module")
def naive():
    return {scenario: learn("replay", TASKS, memory=0, scenario=scenario)[1].mean for scenario in ("class", "task")}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REHEARSED))
def test_new_classes_do_not_take_the_place_of_old_ones(name, naive):
    net, forgetting = learn(name, TASKS, **REHEARSED[name])
    assert naive["class"] < 40, "the last task alone, one of three"
    assert forgetting.mean > naive["class"] + 20
    assert net.classes == ("c0", "c1", "c2", "c3", "c4", "c5")
    assert [task["classes"] for task in net.memory.tasks] == [["c0", "c1"], ["c2", "c3"], ["c4", "c5"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PULLED))
def test_tasks_with_columns_of_their_own_are_forgotten_less(name, naive):
    _, forgetting = learn(name, TASKS, scenario="task", **PULLED[name])
    assert forgetting.mean > naive["task"] + 1


NULL = {"der": {"memory": 0}, "ewc": {"weight": 0.0}, "lwf": {"weight": 0.0}, "si": {"weight": 0.0}}


@pytest.mark.parametrize(("name", "null"), NULL.items())
def test_its_null_setting_is_plain_fine_tuning(name, null):
    plain, _ = learn("replay", TASKS[:2], fit={"epochs": 2}, memory=0)
    net, _ = learn(name, TASKS[:2], fit={"epochs": 2}, **null)
    assert all(torch.equal(own, other) for own, other in zip(net.parameters(), plain.parameters(), strict=True))
