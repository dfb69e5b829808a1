import pytest
import torch

from effxfer.benchmark.compare import EAGER, bench_models, enforce, exceeded_limits, select_gated
from effxfer.benchmark.report import REPEAT
from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.report import Measurement, Report
from tests.benchmark.models import linear

QUICK = {"max_seconds": 0.4, "min_seconds": 0.0, "block": 5, "warmup": 1}


@pytest.fixture
def models(tmp_path):
    dense = linear(tmp_path / "dense.onnx", width=200, classes=100)
    return {"dense": dense, "small": linear(tmp_path / "small.onnx", width=200, classes=10, zeros=1000)}


def test_one_table_with_every_model_and_the_eager_baseline(models):
    report = bench_models(models, baseline="dense", torch_dense=lambda: torch.nn.Linear(200, 100), **QUICK)
    table, start, machine = report.tables
    assert [row["model"] for row in table.rows] == ["dense", "small", EAGER]
    assert {"p50 ms", "p95 ms", "p99 ms", "p50 ratio", "size MB", "compressed MB", "peak MB"} <= set(table.rows[0])
    assert table.rows[2]["size MB"] is None
    assert table.rows[0]["peak MB"] > 0
    assert REPEAT not in str(table)
    assert [row["model"] for row in start.rows] == ["dense", "small"]
    assert start.rows[0]["cold start ms"] is None
    assert {"cpu", "flags", "onnxruntime"} <= {row["fact"] for row in machine.rows}


def test_every_figure_is_a_measurement_with_its_n(models):
    report = bench_models(models, baseline="dense", memory=False, **QUICK)
    assert report["size/dense"].value == models["dense"].stat().st_size / 1e6
    assert report.tables[0].rows[1]["params M"] == 0.00201
    assert (report["nonzero/small"].value, report["nonzero/small"].of) == (0.00101, "0.00201 M parameters")
    assert report["ratio/dense"].value == 1
    assert report["noise"].n >= 1
    assert report["noise"].low <= report["noise"].value <= report["noise"].high
    assert report.get("memory/dense") is None
    assert any("against itself" in note for note in report.notes)
    assert Report.from_json(report.to_json()) == report


def test_what_was_fed_is_reported_where_a_file_fixes_its_batch(models, tmp_path):
    four = linear(tmp_path / "four.onnx", batch=4)
    report = bench_models({**models, "four": four}, baseline="dense", memory=False, cold=1, **QUICK)
    rows = {row["model"]: row for row in report.tables[0].rows}
    assert {name: row["batch"] for name, row in rows.items()} == {"dense": 1, "small": 1, "four": 4}
    assert rows["four"]["p50 ratio"] is None
    assert rows["small"]["p50 ratio"]
    mean = 4e3 / report["throughput/four"].value
    assert report["p50/four"].value <= mean * 3, "images/s counts the four images of a call"
    assert (report["batch/four"].value, report["batch/dense"].value, report["threads"].value) == (4, 1, 1)
    assert "ratio/four" not in {row.name for row in report.rows}
    assert "four: fed 4 images per call, not 1: the batch is fixed in the file" in report.notes
    assert any(note.startswith("no p50 ratio for four: they do not take") for note in report.notes)
    assert exceeded_limits(report, ["four"], 2.0, None) == [
        "four: no p50 ratio to compare with the limit 2: its batch differs from the baseline's"
    ]


def test_a_baseline_of_a_fixed_batch_is_compared_at_that(models, tmp_path):
    four = linear(tmp_path / "four.onnx", width=200, classes=100, batch=4)
    report = bench_models(
        {"four": four, "dense": models["dense"]}, baseline="four", batch=8, memory=False,
        torch_dense=lambda: torch.nn.Linear(200, 100), **QUICK,
    )  # fmt: skip
    rows = {row["model"]: row for row in report.tables[0].rows}
    assert {name: row["batch"] for name, row in rows.items()} == {"four": 4, "dense": 8, EAGER: 4}
    assert rows[EAGER]["p50 ratio"]
    assert any(note.endswith("compare with `batch=4`, if both files take it") for note in report.notes)
    again = bench_models({"four": four, "dense": models["dense"]}, baseline="four", batch=4, memory=False, **QUICK)
    assert again.tables[0].rows[1]["p50 ratio"]
    assert not any("fixed in the file" in note for note in again.notes)


def test_a_gate_that_is_not_met_raises_with_measured_and_allowed(models):
    with pytest.raises(GateError, match=r"small: 0\.00\d MB, allowed 0\.001 MB"):
        bench_models(models, baseline="dense", memory=False, max_mb=0.001, **QUICK)
    assert bench_models(models, baseline="dense", memory=False, max_mb=0.05, **QUICK)


def figures(**rows: tuple[float, float]) -> Report:
    pairs = rows.items()
    ratios = [Measurement(name=f"ratio/{n}", value=r, unit="x", low=r - 0.01, high=r + 0.01) for n, (r, _) in pairs]
    return Report(rows=(*ratios, *(Measurement(name=f"size/{n}", value=mb, unit="MB") for n, (_, mb) in pairs)))


def test_all_limits_that_are_exceeded_are_listed():
    report = figures(a=(0.5, 2.0), b=(0.2, 9.0), c=(0.9, 8.0))
    assert exceeded_limits(report, ["a"], 0.5, 2.0) == []
    found = exceeded_limits(report, ["a", "b", "c"], 0.4, 5.0)
    assert found == [
        "a: p50 ratio 0.500 [0.490, 0.510] to the baseline, allowed 0.4",
        "b: 9.000 MB, allowed 5 MB",
        "c: p50 ratio 0.900 [0.890, 0.910] to the baseline, allowed 0.4",
        "c: 8.000 MB, allowed 5 MB",
    ]
    with pytest.raises(GateError) as caught:
        enforce(report, ["a", "b"], max_p50_ratio=0.4, max_mb=5.0)
    assert "a: p50" in str(caught.value)
    assert "b: 9" in str(caught.value)


def test_limits_apply_to_the_candidates():
    assert select_gated(["dense", "a", "b"], "dense") == ["a", "b"]
    assert select_gated(["dense"], "dense") == ["dense"]
    assert select_gated(["dense", "a", "b"], "dense", ["b"]) == ["b"]


@pytest.mark.parametrize(
    ("names", "baseline", "gated", "ratio", "match"),
    [
        (["dense"], "dens", None, None, "did you mean 'dense'"),
        (["dense", "a"], "dense", ["z"], None, "no model 'z'"),
        (["dense"], "dense", None, 0.5, "beside the baseline"),
        (["dense", EAGER], "dense", None, None, "reserved"),
    ],
)
def test_names_that_make_no_sense_are_refused(names, baseline, gated, ratio, match):
    with pytest.raises(SettingsError, match=match):
        select_gated(names, baseline, gated, ratio)


def test_a_broken_model_is_refused_before_anything_is_timed(models, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"bad\.onnx"):
        bench_models({**models, "bad": tmp_path / "bad.onnx"}, baseline="dense", **QUICK)
