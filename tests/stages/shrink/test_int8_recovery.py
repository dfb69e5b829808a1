"""The training with rounding; outputs and trainings are invented."""

from copy import deepcopy
from types import SimpleNamespace

import pytest

from effxfer.stages.shrink import int8_recovery
from effxfer.stages.shrink.int8_recovery import recover_int8
from effxfer.stages.train.finetune import train
from effxfer.train.fake_quant import FakeRange
from effxfer.train.state import Work
from tests.stages.shrink.test_scores import contest, trained_net

ENTRY = SimpleNamespace(network="net", as_float=None, kept_outputs={})


@pytest.fixture(scope="module")
def trained():
    return trained_net()


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
        contest(stripes, right=len(stripes.val), int8_drop=drop), ENTRY, net, row, epochs=3, seconds=None,
        work=Work(None), label="",
    )  # fmt: skip
    assert lengths == ([(1, pytest.approx(0.001), True)] if trains else [])
    assert (better is not net) == trains
    assert all((before[name] == tensor).all() for name, tensor in net.state_dict().items())
    assert better.state_dict().keys() == before.keys(), "a plain network again"
    assert (after["val"] == 100.0 and after["rounded"] == 1) if trains else after is row


def test_rounding_is_not_trained_for_in_less_time_than_it_takes(trained, monkeypatch):
    net, stripes = trained
    monkeypatch.setattr(int8_recovery, "train", None)
    entry, late = SimpleNamespace(**vars(ENTRY), epoch_seconds=100.0), contest(stripes)
    late.least_seconds = lambda epoch_seconds: epoch_seconds / 2
    row = {"val": 50.0, "float": 90.0, "int8": 50.0, "ships": "int8"}
    same, after = recover_int8(late, entry, net, row, epochs=3, seconds=49.0, work=Work(None), label="")
    assert (same, after) == (net, row)


def test_what_rounding_did_not_improve_is_left_out(trained):
    net, stripes = trained
    row = {"val": 50.0, "float": 90.0, "int8": 50.0, "ships": "int8"}
    same, after = recover_int8(
        contest(stripes), ENTRY, net, row, epochs=3, seconds=None, work=Work(None), label=""
    )  # fmt: skip
    assert same is net
    assert after is row
