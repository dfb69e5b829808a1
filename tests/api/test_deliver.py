import json

import pytest

import effxfer as ex
from effxfer.api.deliver import distinct_names
from effxfer.api.result import Result
from effxfer.errors import GateError, SettingsError

QUICK = {"max_seconds": 0.2, "precision": 0.5, "cold": 0}


def test_export_writes_a_model_that_the_runtime_runs(dense, folder, tmp_path):
    result = ex.export(dense, out=tmp_path / "onnx", int8=False, device="cpu")
    model = ex.Model(result.models["fp32"])
    assert model.predict([folder / "red" / "00.png"])[0].label == "red"
    assert result.accuracy == ex.load(dense.path).accuracy


def test_quantize_passes_its_settings_on(dense, tmp_path):
    plan = ex.preview(ex.quantize, dense, out=tmp_path / "onnx", max_drop=0.5, calibration=8, recipes=["u8s8-7bit"])
    settings = plan["settings"]
    assert (settings["int8"], settings["max_drop"], settings["calibration"]) == (True, 0.5, 8)
    assert settings["recipes"] == ["u8s8-7bit"]


def test_quantize_insists_on_int8(dense, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("effxfer.api.deliver.export", lambda *_, **__: Result.of(exported))
    with pytest.raises(GateError, match="no int8 recipe is both faster and accurate enough"):
        ex.quantize(dense, out=tmp_path / "onnx")


def test_bench_compares_with_a_baseline(exported, dense, tmp_path):
    other = ex.export(dense, out=tmp_path / "other", int8=False, device="cpu")
    compared = ex.bench([other], baseline=Result.of(exported), **QUICK)
    assert compared.report.tables[0].rows[0]["model"] == "onnx fp32"
    assert compared.ship in {"onnx fp32", "other fp32"}
    assert f"model to ship: {compared.ship}" in str(compared)
    assert compared.to_json()["settings"]["cold"] == 0


def test_bench_is_held_against_an_earlier_one(exported, tmp_path):
    earlier = tmp_path / "earlier.json"
    both = [exported.path, exported.path / "model.onnx"]
    first = ex.bench(both, **QUICK)
    earlier.write_text(json.dumps(first.to_json()))
    second = ex.bench(both, compare=earlier, max_regression=0.99, **QUICK)
    assert second.regressions == ()
    second.enforce()
    with pytest.raises(GateError, match="it is slow"):
        type(second)(report=second.report, settings=second.settings, regressions=("it is slow",)).enforce()


def test_bench_sweeps_several_threads(exported):
    plan = ex.preview(ex.bench, [exported.path], threads=[1, 2], batch=4)["settings"]
    assert (plan["threads"], plan["sweep_threads"], plan["batch"]) == (1, [1, 2], 4)


def test_models_are_told_apart_by_as_much_of_their_path_as_it_takes(tmp_path):
    assert distinct_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert distinct_names([tmp_path / "a" / "x" / "onnx", tmp_path / "b" / "x" / "onnx"]) == ["a/x/onnx", "b/x/onnx"]
    with pytest.raises(SettingsError, match="given twice"):
        distinct_names([tmp_path / "a", tmp_path / "b" / ".." / "a"])
