import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from effxfer.benchmark.protocol.runners import onnx_runner
from effxfer.deploy.cpu.targets import TARGETS
from effxfer.deploy.int8.recipes import AUTO, RECIPES
from effxfer.stages.shrink import shipped
from effxfer.stages.shrink.shipped import Shipping, fast_recipe, shipping_clock, timing_limit
from tests import tiny


@pytest.mark.parametrize("cpu", sorted(TARGETS))
@pytest.mark.parametrize("operators", sorted(AUTO))
def test_the_recipe_suits_the_machine(cpu, operators, monkeypatch):
    target = TARGETS[cpu]
    monkeypatch.setattr(shipped, "host_target", lambda: target)
    recipe = fast_recipe(SimpleNamespace(suitable_recipes=lambda _names: AUTO[operators]))
    assert recipe in AUTO[operators]
    suits = [name for name in AUTO[operators] if not target.exclusion_reason(RECIPES[name])]
    assert recipe in (suits or AUTO[operators])
    assert target.loss == "none" or RECIPES[recipe].reduce_range or not suits


@pytest.mark.parametrize(("seconds", "limit"), [(None, 8.0), (3600.0, 8.0), (600.0, 5.0), (60.0, 0.5)])
def test_a_short_time_limit_leaves_less_for_each_timing(seconds, limit):
    assert timing_limit(tiny.settings_of("shrink", seconds=seconds, timing_seconds=8.0)) == limit


def test_candidates_are_timed_and_scored_in_the_runtime_that_ships(dense, exported, monkeypatch):
    used = []

    def runner(file, feed, threads):
        used.append((file.name, threads))
        return onnx_runner(file, feed, threads)

    monkeypatch.setattr(shipped, "runner_in", lambda runtime: runner if runtime == "openvino" else None)
    monkeypatch.setattr(shipped, "onnx_logits", lambda file, rows, **more: more["runtime"])
    monkeypatch.setattr(shipped, "export_plain", lambda _net, file: shutil.copy(exported.path / "model.onnx", file))
    settings = tiny.settings_of("shrink", runtime="openvino")
    net, shipping = dense.net(), Shipping(int8=False, settings=settings)
    with shipping_clock(net, settings) as time:
        assert time(net, shipping).ratio > 0
    assert used == [("dense.onnx", 1), ("timed.onnx", 1)]
    monkeypatch.setattr(Shipping, "write", lambda _self, _net, folder, name, _rows: folder / name)
    rows = np.zeros((4, 16, 16, 3), np.uint8)
    task = SimpleNamespace(train=SimpleNamespace(rows=rows), val=SimpleNamespace(rows=rows))
    assert Shipping(int8=True, settings=settings).outputs(net, task, None) == "openvino"
