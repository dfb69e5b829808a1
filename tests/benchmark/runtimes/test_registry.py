import importlib

import numpy as np
import pytest
import torch

from effxfer.benchmark.compare import bench_models
from effxfer.benchmark.protocol.runners import feed_for, onnx_runner
from effxfer.benchmark.runtimes import registry
from effxfer.benchmark.runtimes.registry import RUNTIMES, OtherRuntime, is_installed, runtime_runners
from tests.benchmark.models import linear


@pytest.fixture
def asked(tmp_path):
    models = {"dense": linear(tmp_path / "dense.onnx"), "small": linear(tmp_path / "small.onnx", classes=2)}
    return models, {name: feed_for(file) for name, file in models.items()}


def use(monkeypatch, factory, **more):
    fake = OtherRuntime(title="Fake", extra="fake", packages=("json",), factory=factory, **more)
    monkeypatch.setattr(registry, "RUNTIMES", {"fake": fake})


def test_a_runtime_that_is_not_installed_is_named_with_what_brings_it(asked, monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    runners, notes = runtime_runners(*asked, {}, runtimes=("litert", "openvino"), threads=1)
    assert runners == {}
    assert notes == [
        "not installed, left out: LiteRT (pip install 'effxfer[litert]'), OpenVINO (pip install 'effxfer[openvino]')"
    ]


def test_every_model_runs_in_it_and_its_answers_are_compared(asked, monkeypatch):
    use(monkeypatch, onnx_runner)
    runners, notes = runtime_runners(*asked, {}, runtimes=("fake",), threads=1)
    assert list(runners) == ["dense in Fake", "small in Fake"]
    assert all(note.endswith("outputs differ from ONNX Runtime's by up to 0 %") for note in notes)


def test_a_runtime_is_fed_and_counted_as_the_file_is(tmp_path, monkeypatch):
    use(monkeypatch, onnx_runner)
    models = {"free": linear(tmp_path / "free.onnx"), "four": linear(tmp_path / "four.onnx", batch=4)}
    report = bench_models(models, baseline="free", runtimes=("fake",), memory=False, max_seconds=0.2, min_seconds=0.0)
    rows = {row["model"]: (row["batch"], bool(row["p50 ratio"])) for row in report.tables[0].rows}
    assert rows == {
        "free": (1, True), "four": (4, False), "free in Fake": (1, True), "four in Fake": (4, False),
    }  # fmt: skip


def test_other_answers_are_told(asked, monkeypatch):
    def off(file, feed, threads):
        made = onnx_runner(file, feed, threads)
        return lambda: lambda: [1.5 * np.asarray(made()()[0])]

    use(monkeypatch, off)
    assert all("by up to 50 %" in note for note in runtime_runners(*asked, {}, runtimes=("fake",), threads=1)[1])


def test_a_network_that_it_cannot_run_is_left_out_with_the_reason(asked, monkeypatch):
    def refuse(net, feed, threads):
        raise NotImplementedError("no kernel for Gelu\nmore")

    use(monkeypatch, refuse, converts=True)
    runners, notes = runtime_runners(*asked, {"dense": lambda: torch.nn.Linear(4, 3)}, runtimes=("fake",), threads=1)
    assert runners == {}
    assert notes == ["dense in Fake left out: NotImplementedError: no kernel for Gelu"]


def test_its_rows_stand_in_the_same_table(asked, monkeypatch):
    use(monkeypatch, onnx_runner)
    report = bench_models(
        asked[0], baseline="dense", runtimes=["fake"], memory=False, max_seconds=0.3, min_seconds=0, block=5, warmup=1
    )
    assert [row["model"] for row in report.tables[0].rows] == ["dense", "small", "dense in Fake", "small in Fake"]
    assert report["ratio/dense in Fake"].n >= 1
    assert report.get("size/dense in Fake") is None


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_the_real_one_answers_like_onnx_runtime(name, tmp_path):
    if not is_installed(RUNTIMES[name]):
        pytest.skip(f"{RUNTIMES[name].title} is not installed")
    file = linear(tmp_path / "m.onnx", width=8)
    feed = feed_for(file)
    net = torch.nn.Linear(8, 3)
    with torch.no_grad():
        weights = {t.name: t for t in importlib.import_module("onnx").load(file).graph.initializer}
        to_array = importlib.import_module("onnx.numpy_helper").to_array
        net.weight.copy_(torch.from_numpy(to_array(weights["W"]).T.copy()))
        net.bias.copy_(torch.from_numpy(to_array(weights["b"]).copy()))
    runners, notes = runtime_runners({"m": file}, {"m": feed}, {"m": lambda: net}, runtimes=(name,), threads=1)
    assert list(runners) == [f"m in {RUNTIMES[name].title}"], notes
    found = np.asarray(runners[f"m in {RUNTIMES[name].title}"]()()[0])
    np.testing.assert_allclose(found, onnx_runner(file, feed)()()[0], rtol=1e-3)
