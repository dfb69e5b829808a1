import gc
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.benchmark.protocol import latency
from effxfer.benchmark.protocol.latency import compare, noise_floor, ratio_interval
from effxfer.errors import SettingsError


class Clock:
    """A clock that only moves when a fake model says so."""

    def __init__(self):
        self.ns, self.waited = 0, 0

    def perf_counter_ns(self):
        return self.ns

    def process_time_ns(self):
        return self.ns - self.waited

    def perf_counter(self):
        return self.ns / 1e9


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(latency, "time", fake)
    return fake


class Stage:
    """Fake models on a fake clock; remembers who was opened, called and closed."""

    def __init__(self, clock):
        self.clock, self.alive, self.log, self.worst, self.collecting = clock, 0, [], 0, []

    def model(self, name, milliseconds, load=1.0):
        stage = self

        class Call:
            def __init__(self):
                stage.alive += 1
                stage.worst = max(stage.worst, stage.alive)
                stage.clock.ns += int(load * 1e6)
                stage.log.append(("open", name))
                self.calls = 0

            def __call__(self):
                cost = milliseconds(self.calls) if callable(milliseconds) else milliseconds
                stage.clock.ns += int(cost * 1e6)
                stage.log.append(("call", name))
                stage.collecting.append(gc.isenabled())
                self.calls += 1

            def close(self):
                stage.alive -= 1

        return Call


@pytest.fixture
def stage(clock):
    return Stage(clock)


def test_ratios_and_percentiles_are_exact_on_a_fake_clock(stage):
    a, b = compare(
        {"dense": stage.model("dense", 10.0, load=7), "small": stage.model("small", 2.5)},
        baseline="dense",
        min_seconds=0,
        threads=3,
    )
    assert (a.p50, a.p95, a.p99, a.ratio) == (10, 10, 10, 1)
    assert (b.p50, b.ratio, b.ratio_low, b.ratio_high) == (2.5, 0.25, 0.25, 0.25)
    assert (a.load_ms, a.threads, a.rounds, a.n) == (7, 3, latency.MIN_ROUNDS, latency.MIN_ROUNDS * 20)


def test_waiting_for_a_core_is_left_out_with_one_thread_only(stage):
    def preempted(call):
        stage.clock.waited += int(30e6)
        return 40.0

    def timed(threads):
        models = {"a": stage.model("a", 5.0), "b": stage.model("b", preempted)}
        return compare(models, baseline="a", min_seconds=0, threads=threads)[1]

    assert (timed(1).p50, timed(1).ratio) == (40, 2)
    assert (timed(2).p50, timed(2).ratio) == (40, 8)


def test_a_runtime_that_takes_more_cores_than_it_was_given_is_compared_by_wall_clock(stage):
    def greedy(call):
        stage.clock.waited -= int(30e6)
        return 10.0

    models = {"a": stage.model("a", 5.0), "b": stage.model("b", greedy)}
    assert compare(models, baseline="a", min_seconds=0)[1].ratio == 2


def test_only_one_session_is_alive_and_every_one_is_closed(stage):
    compare({n: stage.model(n, 1.0) for n in "abc"}, baseline="a", min_seconds=0)
    assert stage.worst == 1
    assert stage.alive == 0


def test_a_failing_model_is_closed_too(stage):
    def fail(call):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        compare({"a": stage.model("a", fail)}, baseline="a")
    assert stage.alive == 0


def test_models_alternate_in_shuffled_order(stage):
    compare({n: stage.model(n, 1.0) for n in "abcd"}, baseline="a", min_seconds=0.5)
    opened = [name for what, name in stage.log if what == "open"]
    rounds = [tuple(opened[i : i + 4]) for i in range(0, len(opened), 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert all(rounds[i] == rounds[i + 1][::-1] for i in range(0, len(rounds) - 1, 2))
    assert len(set(rounds[::2])) > 1


def test_the_order_follows_the_seed(clock):
    def opened(seed):
        stage = Stage(clock)
        compare({n: stage.model(n, 1.0) for n in "abcd"}, baseline="a", min_seconds=0, seed=seed)
        return [name for what, name in stage.log if what == "open"]

    assert opened(1) == opened(1)
    assert opened(1) != opened(2)


def test_warm_up_is_dropped_but_the_first_call_is_told(stage):
    model = stage.model("a", lambda call: 50.0 if call == 0 else 20.0 if call < 3 else 1.0)
    (timing,) = compare({"a": model}, baseline="a", warmup=3, min_seconds=0)
    assert timing.first_ms == 50
    assert timing.p99 == 1


def test_drift_that_hits_whole_rounds_cancels(stage):
    slow = {"factor": 1.0}

    def drifting(base):
        def cost(call):
            slow["factor"] *= 1.0002
            return base * slow["factor"]

        return cost

    timings = compare(
        {"a": stage.model("a", drifting(10.0)), "b": stage.model("b", drifting(5.0))}, baseline="a", min_seconds=20
    )
    assert timings[0].p95 > 1.2 * timings[0].p50
    assert timings[1].ratio == pytest.approx(0.5, rel=0.01)


def test_noise_goes_on_until_the_ratio_is_known_or_time_is_up(stage):
    rng = random.Random(0)

    def noisy(scale):
        return lambda call: 10 * (1 + scale * rng.random())

    calm = compare({"a": stage.model("a", 10.0), "b": stage.model("b", noisy(0.01))}, baseline="a", min_seconds=0)
    wild = compare(
        {"a": stage.model("a", noisy(5)), "b": stage.model("b", noisy(5))}, baseline="a", min_seconds=0, max_seconds=30
    )
    assert calm[1].rounds == latency.MIN_ROUNDS
    assert wild[1].rounds > 2 * latency.MIN_ROUNDS
    assert wild[1].ratio_low < 1 < wild[1].ratio_high


def test_a_slow_model_gets_shorter_blocks_within_the_budget(stage):
    timings = compare(
        {"slow": stage.model("slow", 1000.0), "fast": stage.model("fast", 1.0)}, baseline="slow", max_seconds=60
    )
    assert latency.MIN_CALLS * timings[0].rounds <= timings[0].n < 20 * timings[0].rounds
    assert stage.clock.ns / 1e9 < 75


def test_garbage_is_not_collected_within_a_block(stage):
    compare({"a": stage.model("a", 1.0)}, baseline="a", block=4, warmup=2, min_seconds=0)
    assert stage.collecting[:6] == [True, True, False, False, False, False]
    assert gc.isenabled()


def test_noise_floor_is_the_same_model_twice(stage):
    timing = noise_floor(stage.model("a", 3.0), min_seconds=0)
    assert (timing.ratio, timing.p50) == (1, 3)


@pytest.mark.parametrize(
    "bad", [{"block": 2}, {"warmup": 0}, {"max_seconds": 0.0}], ids=["short block", "no warm-up", "no time"]
)
def test_nonsense_is_refused(bad):
    with pytest.raises(SettingsError):
        compare({"a": lambda: lambda: None}, baseline="a", **bad)


def test_an_unknown_baseline_is_named_with_what_there_is():
    with pytest.raises(SettingsError, match="did you mean 'dense'") as caught:
        compare({"dense": lambda: lambda: None}, baseline="dens")
    assert "dense" in caught.value.hint


positive = st.floats(0.1, 1000, allow_nan=False)


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=20))
def test_the_interval_holds_the_median_of_the_ratios_and_stays_within_their_range(pairs):
    ours, base = (np.array(column) for column in zip(*pairs, strict=True))
    ratio, low, high = ratio_interval(ours, base)
    ratios = ours / base
    assert ratios.min() * 0.999999 <= low <= high <= ratios.max() * 1.000001
    assert ratio == np.median(ratios)


@given(st.lists(positive, min_size=2, max_size=20), positive)
def test_a_constant_factor_is_known_exactly(base, factor):
    ratio, low, high = ratio_interval(np.array(base) * factor, np.array(base))
    assert (ratio, low, high) == (pytest.approx(factor),) * 3
