from contextlib import contextmanager

import pytest
import torch
from torch import nn

from effxfer.benchmark.layer_table import table as layers
from effxfer.benchmark.protocol import latency as protocol
from effxfer.errors import SettingsError
from effxfer.prune.channels import latency_loop
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.prune.channels.layer_prices import MultiplyAdds
from effxfer.prune.channels.to_latency import modelled_ms
from effxfer.prune.graph.sizes import apply_sizes
from effxfer.settings import build
from effxfer.stages.prune import channels, latency
from effxfer.stages.prune.latency import prune_to_measured_latency, step_target, typical_example
from effxfer.stages.runner import onnx_timing
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.finetune import train
from tests import tiny, tiny_text
from tests.prune.channels.test_to_latency import cost

CHANNELS = "prune channels"
STEPS = {"ratio": None, "latency_ratio": 0.5, "steps": 2, "fit": {**tiny.FIT, "epochs": 2}}


class Costs:
    """A cost table of multiply-adds."""

    step = 8
    ms = staticmethod(cost)


@contextmanager
def stopwatch(dense, threads, seed, rows=None):
    """A clock that says what the cost model says, ten times as slow."""
    example = torch.zeros(1, 3, 16, 16)
    base = 10 * modelled_ms(dense, example, cost)

    def time(net):
        ms = 10 * modelled_ms(net, example, cost)
        return PairedTiming(ratio=ms / base, low=ms / base, high=ms / base, ms=ms, dense_ms=base, n=5)

    yield time


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(latency, "measure_costs", lambda *_, **__: Costs())
    monkeypatch.setattr(latency, "stopwatch", stopwatch)


def dense_ms(dense):
    return 10 * modelled_ms(dense.net(), torch.zeros(1, 3, 16, 16), cost)


@pytest.mark.slow
def test_steps_meet_the_latency_and_a_resumed_run_measures_nothing_again(fake, dense, data, tmp_path, monkeypatch):
    labels = []
    whole = tiny.stage(CHANNELS, dense, tmp_path / "whole", data, **STEPS)
    report = whole.manifest.report
    assert abs(report["latency/measured"].value / 0.5 - 1) <= 0.1
    assert report["latency/asked"].value == 0.5
    assert report["macs/before"].value == pytest.approx(report["macs/after"].value / report["macs/ratio"].value)
    titles = [table.title for table in report.tables]
    parts = "Searches for a latency", "Channels removed for the latency", "Removable residual blocks"
    ends = [f"step {number} of 2" for number in (1, 2)]
    assert all(sum(t.startswith(part) and t.endswith(end) for t in titles) == 1 for part in parts for end in ends)
    monkeypatch.setattr(channels, "train", tiny.cut_off(train, labels, "recover 2 of 2"))
    with pytest.raises(KeyboardInterrupt):
        tiny.stage(CHANNELS, dense, tmp_path / "cut", data, **STEPS)
    monkeypatch.setattr(
        channels, "prune_step_to_latency", lambda *_, **__: pytest.fail("a finished cut was done again")
    )
    resumed = tiny.stage(CHANNELS, dense, tmp_path / "cut", data, **STEPS)
    assert resumed.manifest.edits == whole.manifest.edits
    ours, theirs = resumed.net().state_dict(), whole.net().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_milliseconds_are_those_of_the_file(fake, dense, data, tmp_path):
    wanted = 0.6 * dense_ms(dense)
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, ratio=None, latency_ms=wanted, fit={"epochs": 0})
    assert abs(made.manifest.report["latency/p50"].value / wanted - 1) <= 0.1
    assert made.manifest.report["latency/asked"].unit == "ms"


def test_what_is_fast_already_is_said(fake, dense, data, tmp_path):
    with pytest.raises(SettingsError, match=r"the network takes only .* ms"):
        tiny.stage(CHANNELS, dense, tmp_path / "out", data, ratio=None, latency_ms=1e6)


@pytest.mark.parametrize("wish", [{"latency_ratio": 0.25}, {"latency_ms": 1.0}])
def test_steps_are_even_factors(wish):
    settings = build(Channels, {**wish, "steps": 2}, CHANNELS)
    first, last = (step_target(settings, step, 2.0, lambda: 4.0) for step in (1, 2))
    scale = 1 if "latency_ratio" in wish else 4.0
    assert (first.value, last.value) == pytest.approx((0.5 * scale, 0.25 * scale))
    assert 2.0 * first.per_ms == pytest.approx(scale)


@pytest.mark.slow
def test_on_this_machine(dense, data, tmp_path, monkeypatch):
    """The real clocks, for a moment: what they say on a busy machine is not asserted."""
    for where, name, value in [
        (latency_loop, "ALLOWED", 100.0), (latency_loop, "CORRECTIONS", 0), (onnx_timing, "MAX_SECONDS", 0.3),
        (onnx_timing, "MIN_SECONDS", 0.1), (layers, "RUNS", (3, 3)), (protocol, "MIN_ROUNDS", 2),
    ]:  # fmt: skip
        monkeypatch.setattr(where, name, value)
    made = tiny.stage(
        CHANNELS, dense, tmp_path / "out", data, ratio=None, latency_ratio=0.6, size=12, fit={"epochs": 0}
    )
    report = made.manifest.report
    assert report["latency/predicted"].value <= report["latency/asked"].value
    assert report["latency/measured"].value > 0


class Plain(nn.Module):
    """Somebody's own network."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.fc = (
            nn.Conv2d(1, 64, 3, padding=1),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.Linear(64, 4),
        )

    def forward(self, x):
        x = self.stem(x).relu()
        return self.fc((x + self.conv(x).relu()).mean((2, 3)))


def shrink_plain(**target):
    torch.manual_seed(0)
    net, prices, images = Plain().eval(), MultiplyAdds(), torch.rand(8, 1, 8, 8)

    @torch.no_grad()
    def loss(candidate):
        return float(candidate(images).square().mean())

    def clock(candidate):
        return 3 * modelled_ms(candidate, images[:1], prices.ms)

    before = clock(net)
    result = prune_to_measured_latency(net, loss=loss, example=images, clock=clock, prices=prices, **target)
    return net, result, before, clock(net)


@pytest.mark.parametrize("target", [{"latency_ratio": 0.5}, {"latency_ms": 0.035}])
def test_a_module_meets_a_latency_by_its_owners_clock(target):
    net, result, before, after = shrink_plain(**target)
    assert before > 0.07
    assert after <= 1.1 * target.get("latency_ms", 0.5 * before)
    assert result.report["latency/p50"].value == pytest.approx(after)
    new = Plain()
    apply_sizes(new, result.record)
    new.load_state_dict(net.state_dict())
    assert torch.equal(new(torch.ones(1, 1, 8, 8)), net(torch.ones(1, 1, 8, 8)))


@pytest.mark.parametrize("target", [{}, {"latency_ratio": 0.5, "latency_ms": 1.0}])
def test_exactly_one_target_is_passed(target):
    with pytest.raises(SettingsError, match="either latency_ratio or latency_ms"):
        shrink_plain(**target)


def test_layers_of_texts_are_priced_at_the_median_length_of_validation_texts(dense):
    rows = tiny_text.rows(9)
    example = typical_example(tiny_text.text_net(), rows)
    assert example.shape == (1, sorted(rows.lengths)[4])
    assert example.equal(typical_example(tiny_text.text_net(), rows))
    assert typical_example(dense.net(), None).shape[1:] == (3, 16, 16)
