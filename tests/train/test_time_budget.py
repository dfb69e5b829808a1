"""Training is made as long as fits into a time, by a clock that the test moves itself."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from effxfer.train.fit import fit
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work
from effxfer.train.time_budget import Allowance, Pace
from tests.train.test_fit import CPU, CutOffError, cut, epochs, equal, loss, make, run, score

STEP, VALIDATION = 1.0, 5.0


class Clock:
    """Time passes only in steps and validations; a step takes `factor` times as long from `slow_from` seconds on."""

    def __init__(self, factor: float = 1.0, slow_from: float = 0.0) -> None:
        self.now, self.factor, self.slow_from = 0.0, factor, slow_from

    def loss(self, net, batch, progress):
        self.now += STEP * (self.factor if self.now > self.slow_from else 1.0)
        return loss(net, batch, progress)

    def validate(self, net):
        self.now += VALIDATION
        return score(net)


def timed(monkeypatch, clock: Clock, seconds: float, net: nn.Module, work: Work = Work(None), **more) -> list[dict]:  # noqa: B008
    told = FitSettings(epochs=more.pop("epochs", 1000), lr=0.05)
    allowance = Allowance(seconds=seconds, validations=more.pop("validations", 0))
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: clock.now)
        return fit(
            net, epochs, clock.loss, told, device=CPU, seed=3, work=work, validate=lambda: clock.validate(net),
            allowance=allowance, **more,
        )  # fmt: skip


def test_what_fits_is_trained_as_if_it_had_been_asked_for(monkeypatch):
    clock, net = Clock(), make()
    history = timed(monkeypatch, clock, 100, net)
    assert len(history) == 9
    assert 90 <= clock.now <= 100
    assert equal(net, run(make(), Work(None), epochs=9))


def test_no_more_than_all_epochs(monkeypatch):
    clock, net = Clock(), make()
    assert len(timed(monkeypatch, clock, 1e6, net, epochs=4)) == 4
    assert equal(net, run(make(), Work(None), epochs=4))


def test_one_epoch_is_trained_however_little_time_there_is(monkeypatch):
    assert len(timed(monkeypatch, Clock(), 1, make())) == 1


def test_time_is_left_for_what_comes_afterwards(monkeypatch):
    clock = Clock()
    timed(monkeypatch, clock, 100, make(), validations=4)
    assert 70 <= clock.now <= 80


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("slow_from", [20.0, 150.0])
def test_another_pace_is_noticed_and_the_time_kept(monkeypatch, factor, slow_from):
    clock = Clock(factor, slow_from)
    timed(monkeypatch, clock, 1000, make())
    assert 900 <= clock.now <= 1100


def test_no_longer_schedule_once_the_rate_has_fallen(monkeypatch):
    clock = Clock(0.1, 800)
    history = timed(monkeypatch, clock, 1000, make())
    rates = [row["lr"] for row in history]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert clock.now < 1000


def test_time_spent_before_an_interruption_counts(monkeypatch, tmp_path):
    clock, net = Clock(), make()
    with pytest.raises(CutOffError):
        timed(monkeypatch, clock, 100, net, Work(tmp_path), after_step=cut(4 + 23))
    done = clock.now
    clock.now = 1e6
    history = timed(monkeypatch, clock, 100, make(), Work(tmp_path))
    assert len(history) == 9
    assert done + clock.now - 1e6 <= 100 + 5 * STEP


def test_what_is_trained_only_later_is_timed_as_well(monkeypatch):
    clock = Clock()

    def begin(learner, progress):
        learner.train()
        learner[0].requires_grad_(progress >= 0.5)

    def dearer(net, batch, progress):
        clock.now += 4 * STEP if net[0].weight.requires_grad else STEP
        return loss(net, batch, progress)

    clock.loss = dearer
    timed(monkeypatch, clock, 1000, make(), begin_epoch=begin)
    assert clock.now <= 1000


@given(st.floats(0.01, 10), st.floats(0, 10), st.floats(0, 1000), st.floats(0, 1000), st.integers(1, 50))
def test_what_fits_does_fit(step, validation, seconds, spent, length):
    allowance = Allowance(seconds=seconds)
    steps = Pace(step=step, validation=validation).steps_within(allowance, spent, length)
    assert steps * (step + validation / length) <= max(seconds - spent, 0) + 1e-6
