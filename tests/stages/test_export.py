import numpy as np
import pytest

from effxfer.deploy.gate import REJECTED
from effxfer.errors import DataError, GateError
from effxfer.runtime.model import Model
from effxfer.stages import export as stage
from effxfer.stages.run import Where, load_task
from tests import tiny


def test_the_file_answers_like_the_network(exported, dense, data, tmp_path):
    report = exported.manifest.report
    assert report["accuracy/val/fp32"].value == report["accuracy/val/torch"].value
    assert report["accuracy/val/torch"].value == dense.manifest.report["accuracy/val"].value
    assert report["parity/agreement"].value == 100
    task = load_task(data, dense.net().preprocess, Where(out=tmp_path / "out"))
    model = Model(exported.path / "model.onnx")
    found = model.logits(np.asarray(task.test.pixels)).argmax(1)
    accuracy = 100 * float((found == task.test.labels).mean())
    assert accuracy == pytest.approx(report["accuracy/test/fp32"].value)


def test_the_artifact_lists_and_seals_the_file(exported):
    assert "model.onnx" in exported.manifest.files
    assert "model.int8.onnx" not in exported.manifest.files


def test_the_network_is_carried_on(exported, dense):
    assert exported.manifest.edits == dense.manifest.edits
    assert exported.net().classes == tiny.CLASSES


def test_a_file_that_is_too_far_off_does_not_ship(dense, data, tmp_path):
    with pytest.raises(GateError, match="differs from the network") as caught:
        tiny.stage("export", dense, tmp_path / "out", data, int8=False, tolerance=1e-12)
    assert caught.value.code == "E601"
    assert not (tmp_path / "out").exists()
    assert [file.name for file in tmp_path.rglob("*.onnx*")] == ["model.onnx" + REJECTED]


def test_a_damaged_graph_does_not_ship(dense, data, tmp_path, monkeypatch):
    import onnx
    from onnx import numpy_helper

    def spoil(*args, **more):
        file = made(*args, **more)
        model = onnx.load(file)
        largest = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        values = -3 * numpy_helper.to_array(largest)
        largest.CopyFrom(numpy_helper.from_array(values, largest.name))
        onnx.save(model, file)
        return file

    made = stage.export_onnx
    monkeypatch.setattr(stage, "export_onnx", spoil)
    with pytest.raises(GateError, match="a logit differs"):
        tiny.stage("export", dense, tmp_path / "out", data, int8=False)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    again = tiny.stage("export", dense, tmp_path / "out", data, int8=False)
    assert sorted(file.name for file in again.path.iterdir()) == ["manifest.json", "model.onnx", "weights.safetensors"]


def test_int8_ships_only_where_it_is_worth_it(dense, data, tmp_path):
    made = tiny.stage("export", dense, tmp_path / "out", data)
    kept = "model.int8.onnx" in made.manifest.files
    assert (made.path / "model.int8.onnx").exists() == kept
    assert (made.manifest.report.get("accuracy/val/int8") is not None) == kept
    tried = [table for table in made.manifest.report.tables if any("u8s8" in str(row) for row in table.rows)]
    assert tried
    assert not list(made.path.glob(f"*{REJECTED}"))


def test_pixels_can_be_taken_as_they_are(dense, data, tmp_path):
    made = tiny.stage("export", dense, tmp_path / "out", data, int8=False, with_preprocessing=True)
    report = made.manifest.report
    assert report["accuracy/test/fp32"].value == report["accuracy/test/torch"].value


def test_other_classes_are_refused(dense, data, tmp_path):
    folder = tiny.write_images(tmp_path / "other")
    (folder / "red").rename(folder / "ruby")
    with pytest.raises(DataError, match="finetune it first"):
        tiny.stage("export", dense, tmp_path / "out", tiny.data_of(folder), int8=False)
