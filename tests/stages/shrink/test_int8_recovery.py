"""What ships of a candidate, and the training with rounding; outputs and trainings are invented."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest

from effxfer.stages.shrink import int8_recovery
from effxfer.stages.shrink.int8_recovery import recover_int8, scores_of
from effxfer.stages.train.finetune import train
from effxfer.train.fake_quant import FakeRange
from effxfer.train.state import Work
from effxfer.transfer.fine_tuning.full import Full
from tests import tiny
from tests.stages.shrink.test_contest import timing
from tests.transfer.tasks import CPU, adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


@pytest.fixture(scope="module")
def trained():
    stripes = task()
    net, *_ = adapt(Full(**PLAIN), stripes, epochs=4)
    return net.eval(), stripes


def contest(stripes, *, right=0, int8=True, **changes):
    """All that scoring and training need; the int8 file answers `right` of the validation images correctly."""
    wrong = np.eye(2, dtype=np.float32)[1 - stripes.val.labels]
    wrong[:right] = 1 - wrong[:right]
    shipping = SimpleNamespace(
        int8=int8, precision="int8" if int8 else "float32", outputs=lambda _net, _task, _device: wrong
    )
    return SimpleNamespace(
        settings=tiny.settings_of("shrink", fit={**tiny.FIT, "epochs": 3}, **changes), strategy=Full(**PLAIN),
        network_of=lambda _name: SimpleNamespace(shipping=shipping), task_for=lambda _net: stripes,
        tasks_for=lambda _net: [stripes], loss_for=lambda _net, _kept: Full(**PLAIN).loss, device=CPU, now=lambda: 0.0,
    )  # fmt: skip


def entry(as_float=None):
    return SimpleNamespace(network="net", as_float=as_float, kept_outputs={})


def test_the_more_accurate_of_two_files_in_time_ships(trained):
    net, stripes = trained
    float32 = scores_of(contest(stripes, int8=False), net, entry())["val"]
    assert float32 > 50
    only = scores_of(contest(stripes), net, entry())
    assert (only["ships"], only["val"], only["int8"], only["float"]) == ("int8", 0.0, 0.0, float32)
    both = scores_of(contest(stripes), net, entry(timing(0.3)))
    assert (both["ships"], both["val"], both["int8"]) == ("float32", float32, 0.0)
    equal = scores_of(contest(stripes, right=len(stripes.val)), net, entry(timing(0.3)))
    assert (equal["ships"], equal["val"]) == ("int8", 100.0), "the faster one of equal ones"


@pytest.mark.parametrize(
    ("drop", "ships", "lost", "trains"),
    [(0.5, "int8", 1.0, True), (0.5, "int8", 0.5, False), (None, "int8", 9.0, False), (0.5, "float32", 9.0, False)],
)
def test_rounding_is_trained_for_where_it_costs_too_much(trained, monkeypatch, drop, ships, lost, trains):
    net, stripes = trained
    lengths = []

    def noted(rounded, *rest, **more):
        lengths.append((rest[2].epochs, rest[2].lr, sum(isinstance(m, FakeRange) for m in rounded.modules()) > 0))
        return train(rounded, *rest, **more)

    monkeypatch.setattr(int8_recovery, "train", noted)
    row = {"val": 90.0 - lost, "float": 90.0, "int8": 90.0 - lost, "ships": ships}
    before = deepcopy(net.state_dict())
    better, after = recover_int8(
        contest(stripes, right=len(stripes.val), int8_drop=drop), entry(), net, row, epochs=3, seconds=None,
        work=Work(None), label="",
    )  # fmt: skip
    assert lengths == ([(1, pytest.approx(0.001), True)] if trains else [])
    assert (better is not net) == trains
    assert all((before[name] == tensor).all() for name, tensor in net.state_dict().items())
    assert better.state_dict().keys() == before.keys(), "a plain network again"
    assert (after["val"] == 100.0 and after["rounded"] == 1) if trains else after is row


def test_what_rounding_did_not_improve_is_left_out(trained):
    net, stripes = trained
    row = {"val": 50.0, "float": 90.0, "int8": 50.0, "ships": "int8"}
    same, after = recover_int8(
        contest(stripes), entry(), net, row, epochs=3, seconds=None, work=Work(None), label=""
    )  # fmt: skip
    assert same is net
    assert after is row
