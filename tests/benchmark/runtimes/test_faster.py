from types import SimpleNamespace

import pytest

from effxfer.benchmark.compare import bench_models
from effxfer.benchmark.runtimes.faster import faster_notes, own_notes
from tests.benchmark.models import linear
from tests.runtimes import require_openvino


def timing(name, ratio, width=0.01):
    return SimpleNamespace(name=name, ratio=ratio, ratio_low=ratio - width, ratio_high=ratio + width)


def test_a_faster_runtime_is_named_with_what_ships_it():
    timings = [timing("a", 1.0), timing("a in OpenVINO", 0.5), timing("a in LiteRT", 0.9)]
    first, second = faster_notes(timings, {"a": "onnxruntime"})
    assert first == (
        "a is faster in OpenVINO on this CPU: 0.500 [0.485, 0.515] of its p50; "
        "export with `runtime=openvino` to check and ship it so"
    )
    assert second == "a is faster in LiteRT on this CPU: 0.900 [0.881, 0.919] of its p50"


def test_onnx_runtime_is_named_for_a_file_of_openvino():
    (note,) = faster_notes([timing("a", 0.8), timing("a in ONNX Runtime", 0.4)], {"a": "openvino"})
    assert note.endswith("of its p50; export without `runtime` to ship it so")


@pytest.mark.parametrize("other", [timing("a in OpenVINO", 1.2), timing("a in OpenVINO", 0.9, width=0.2)])
def test_slower_or_within_the_noise_is_no_news(other):
    assert list(faster_notes([timing("a", 1.0), other, timing("torch eager dense", 0.1)], {"a": "onnxruntime"})) == []


def test_a_file_for_openvino_is_timed_in_it_and_beside_it_in_onnx_runtime(tmp_path):
    require_openvino()
    models = {"a": linear(tmp_path / "a.onnx"), "b": linear(tmp_path / "b.onnx")}
    report = bench_models(
        models, baseline="a", own_runtimes={"b": "openvino"}, runtimes=("openvino",), max_seconds=0.3, min_seconds=0.0,
        cold=1,
    )  # fmt: skip
    names = [row["model"] for row in report.tables[0].rows]
    assert names == ["a", "b", "b in ONNX Runtime", "a in OpenVINO"]
    assert any(note.startswith("timed in OpenVINO 2") and note.endswith("exported: b") for note in report.notes)
    assert report["cold/b"].value > 0
    assert report["memory/b"].value > 0


def test_nothing_is_noted_without_files_for_openvino():
    assert list(own_notes({"a": "onnxruntime"})) == []
