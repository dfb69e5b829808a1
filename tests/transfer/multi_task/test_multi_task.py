"""Every weighting trains, goes on after it was killed, and says what it does not take."""

import numpy as np
import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.train.state import Work
from effxfer.transfer.multi_task.multi_task import MultiTask
from effxfer.transfer.multi_task.weightings.weighting_registry import WEIGHTINGS
from effxfer.transfer.strategies import make_strategy
from tests.transfer.tasks import CPU, accuracy, adapt, two_tasks

PLAIN = {"batch": 16, "augment": {"crop": "none", "flip": False}}


def strategy(**options):
    return build(MultiTask, {**PLAIN, **options}, "options")


class KilledError(Exception):
    pass


QUICK = ("dwa", "pcgrad")  # one that has a state, and one that combines gradients


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in WEIGHTINGS]
)
def test_a_weighting_learns_and_goes_on_bit_for_bit_after_it_was_killed(tmp_path, name):
    def kill(done):
        if done == 8:  # in the third epoch, when dwa has its first weights
            raise KilledError

    task, method = two_tasks(), strategy(weighting=name)
    torch.manual_seed(0)
    net, _, whole, rows = adapt(method, task, work=Work(tmp_path / "whole"), epochs=4)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"way", "other"} <= rows[0].keys()
    torch.manual_seed(0)
    with pytest.raises(KilledError):
        adapt(method, task, work=Work(tmp_path / "parts"), after=kill, epochs=4)
    torch.manual_seed(0)
    _, _, parts, again = adapt(method, task, work=Work(tmp_path / "parts"), epochs=4)
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert accuracy(net, task) > 50


@pytest.mark.parametrize(("name", "options"), [
    ("equal", {"weights": {"way": 1.0}}), ("cagrad", {"c": 0.0}), ("dwa", {"temperature": 1e9}),
])  # fmt: skip
def test_the_null_value_of_a_weighting_is_the_plain_sum(name, options):
    torch.manual_seed(0)
    _, _, plain, _ = adapt(strategy(), two_tasks(), epochs=3)
    torch.manual_seed(0)
    _, _, null, _ = adapt(strategy(weighting=name, **options), two_tasks(), epochs=3)
    for key, tensor in plain.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(null[key], tensor, rtol=0.02, atol=2e-3, msg=lambda text, k=key: f"{k}: {text}")


def test_a_task_of_weight_zero_is_not_learned():
    task = two_tasks()
    torch.manual_seed(0)
    net, before, after, _ = adapt(strategy(weights={"other": 0.0}), task, epochs=2, weight_decay=0.0)
    assert torch.equal(before["head.heads.1.out.weight"], after["head.heads.1.out.weight"])
    assert not torch.equal(before["head.heads.0.out.weight"], after["head.heads.0.out.weight"])
    assert net.output.names == ("way", "other")


def test_frozen_blocks_stay_and_gradients_of_the_others_are_combined():
    torch.manual_seed(0)
    _, before, after, _ = adapt(strategy(weighting="pcgrad", freeze=0.5), two_tasks(), epochs=1)
    assert torch.equal(first(before), first(after))
    assert not all(torch.equal(before[key], after[key]) for key in before if key.startswith("body."))


def first(state):
    return next(tensor for key, tensor in state.items() if key.startswith("body.") and key.endswith("weight"))


def test_main_tasks_choose_the_epoch():
    task = two_tasks()
    torch.manual_seed(0)
    net, *_ = adapt(strategy(main=["way"]), task, epochs=1)
    raw = np.zeros((len(task.val), 4), np.float32)
    raw[np.arange(len(task.val)), task.val.labels[:, 0].astype(int)] = 1  # right in the main task alone
    assert net.output.score(raw, task.val.labels).value == 100
    assert CPU.world == 1


@pytest.mark.parametrize(("options", "says"), [
    ({"weighting": "magic"}, "'cagrad', 'dwa', 'equal'"),
    ({"weighting": "pcgrad", "weights": {"a": 1.0}}, "weights has no effect with weighting 'pcgrad'; it is for equal"),
    ({"weighting": "cagrad", "c": 1.0}, "less than 1"),
    ({"weights": {"a": -1.0}}, "the weight of 'a' is below 0"),
    ({"main": ["a"], "auxiliary": ["a"]}, "'a' is main and auxiliary"),
    ({"weighting": "mgda", "freeze": 1.0}, "all of which is frozen"),
    ({"freeze": 1.5}, "a share in"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(SettingsError, match=says):
        make_strategy("multi_task", options)
