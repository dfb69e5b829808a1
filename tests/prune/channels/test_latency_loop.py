import pytest

from effxfer.errors import GateError, SettingsError
from effxfer.prune.channels.knapsack import Choice
from effxfer.prune.channels.latency_loop import (
    CORRECTIONS,
    LatencyTarget,
    PairedTiming,
    latency_report,
    nearest_round,
    search_to_target,
)


def fine(target):
    """A search that can meet any target, in steps of 0.01 ms."""
    return Choice(removed={"g": int(1000 - 100 * target)}, ms=int(100 * target) / 100, loss=1 / target, reached=True)


def clock(real):
    """Dense takes 10 ms of the model, and 20 in reality."""

    def time(choice):
        ms = real(choice.ms)
        return PairedTiming(ratio=ms / 20, low=0.9 * ms / 20, high=1.1 * ms / 20, ms=ms, dense_ms=20.0, n=7)

    return time


SHARE = LatencyTarget(value=0.4, unit="x", per_ms=1 / 10)
MS = LatencyTarget(value=8.0, unit="ms", per_ms=2.0)


@pytest.mark.parametrize("target", [SHARE, MS])
def test_a_right_model_needs_no_correction(target):
    rounds = search_to_target(target, fine, clock(lambda ms: 2 * ms))
    assert len(rounds) == 1
    best = nearest_round(rounds, target)
    assert best.predicted == pytest.approx(best.measured_value(target)) == pytest.approx(target.value)


@pytest.mark.parametrize("target", [SHARE, MS])
@pytest.mark.parametrize("real", [lambda ms: 3 + 1.7 * ms, lambda ms: 2.6 * ms, lambda ms: 0.1 * ms**2 + ms])
def test_a_wrong_model_is_corrected(target, real):
    rounds = search_to_target(target, fine, clock(real))
    assert 2 <= len(rounds) <= CORRECTIONS + 1
    assert abs(nearest_round(rounds, target).deviation(target)) <= 0.05
    assert abs(rounds[0].deviation(target)) > 0.05


def test_a_configuration_is_not_timed_twice():
    calls = []

    def time(choice):
        calls.append(choice.ms)
        return clock(lambda ms: 2.15 * ms)(choice)

    def coarse(_target):
        return Choice(removed={"g": 1}, ms=4.0, loss=1.0, reached=True)

    rounds = search_to_target(SHARE, coarse, time)
    assert calls == [4.0]
    assert nearest_round(rounds, SHARE).timing.ratio == pytest.approx(0.43)


def test_what_the_model_cannot_reach_is_said():
    with pytest.raises(SettingsError, match=r"0\.4 x cannot be reached: 0\.7 x remains"):
        search_to_target(SHARE, lambda _: Choice(removed={}, ms=7.0, loss=9.0, reached=False), clock(lambda ms: ms))


def test_a_broken_promise_is_a_failed_gate():
    def coarse(_target):
        return Choice(removed={"g": 1}, ms=4.0, loss=1.0, reached=True)

    rounds = search_to_target(SHARE, coarse, clock(lambda ms: 2.5 * ms))
    with pytest.raises(GateError, match=r"asked for a latency of 0\.4 x, got 0\.5 x in 1 searches"):
        nearest_round(rounds, SHARE)


def test_a_faster_network_keeps_the_promise_and_the_report_says_so():
    def coarse(_target):
        return Choice(removed={"g": 1}, ms=4.0, loss=1.0, reached=True)

    rounds = search_to_target(SHARE, coarse, clock(lambda ms: 1.5 * ms))
    best = nearest_round(rounds, SHARE)
    assert best.timing.ratio == pytest.approx(0.3)
    (note,) = latency_report(rounds, best, SHARE).notes
    assert note.startswith("faster than requested: 0.3 x for a target of 0.4 x")


def test_slower_within_a_tenth_is_preferred_to_much_faster():
    def two(target):
        return Choice(removed={"g": int(target < 4)}, ms=2.0 if target < 4 else 4.0, loss=1.0, reached=True)

    rounds = search_to_target(SHARE, two, clock(lambda ms: 2.15 * ms))
    assert [one.timing.ratio for one in rounds] == pytest.approx([0.43, 0.215])
    assert nearest_round(rounds, SHARE) is rounds[0]


def test_a_correction_out_of_reach_ends_the_search():
    def least(target):
        return Choice(removed={"g": int(10 * target)}, ms=max(target, 3.9), loss=1.0, reached=target >= 3.9)

    rounds = search_to_target(SHARE, least, clock(lambda ms: 2.18 * ms))
    assert [one.choice.reached for one in rounds] == [True, False]
    assert nearest_round(rounds, SHARE).choice.ms == 3.9


def test_the_report_says_what_was_asked_and_got():
    rounds = search_to_target(SHARE, fine, clock(lambda ms: 2.6 * ms))
    report = latency_report(rounds, nearest_round(rounds, SHARE), SHARE)
    assert report["latency/asked"].value == 0.4
    measured = report["latency/measured"]
    assert measured.low < measured.value < measured.high
    assert report.get("latency/corrections") == len(rounds) - 1
    assert [row["selected"] for row in report.tables[0].rows].count("yes") == 1
    assert not report.notes
