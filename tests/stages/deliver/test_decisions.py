import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from effxfer.artifact import Artifact
from effxfer.errors import ModelFileError
from effxfer.runtime.model import Model
from effxfer.stages.deliver.decisions import class_counts, report_decisions
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.settings.common import CLASSES, PICTURES


@pytest.fixture
def task(data, dense, tmp_path):
    return load_task(data, dense.net().input, RunContext(out=tmp_path / "out"))


def spoiled(task):
    """Logits of a perfect file, and of a file that takes the first two examples of class 0 for class 1."""
    perfect = 5 * np.eye(len(task.classes), dtype=np.float32)[task.val.labels]
    worse = perfect.copy()
    worse[np.flatnonzero(task.val.labels == 0)[:2]] = 9 * np.eye(len(task.classes), dtype=np.float32)[1]
    return {"fp32": perfect, "int8": worse}


def test_the_export_counts_what_its_file_decides(exported, task):
    counts = class_counts(exported)
    right = Model(exported.path / "model.onnx").logits(task.val.rows).argmax(1) == task.val.labels
    assert counts.counts.tolist() == np.bincount(task.val.labels).tolist()
    assert counts.hits["fp32"].tolist() == np.bincount(task.val.labels[right], minlength=3).tolist()
    report = exported.manifest.report
    worst = min(h / n for h, n in zip(counts.hits["fp32"], counts.counts, strict=True))
    assert report["worst class/val/fp32"].value == pytest.approx(100 * worst)
    assert (PICTURES in exported.manifest.files) == (not right.all())


def test_the_class_that_pays_is_named_and_its_mistakes_are_shown(task, tmp_path):
    report = report_decisions(tmp_path, spoiled(task), task, images=True)
    n = int((task.val.labels == 0).sum())
    assert report["worst class/val/fp32"].value == 100
    assert report["worst class/val/int8"].value == pytest.approx(100 * (n - 2) / n)
    assert report["worst class/val/int8"].of == f"images of {task.classes[0]}"
    assert report["calibration error/val/int8"].value > report["calibration error/val/fp32"].value
    by_class, confusion, mistakes = report.tables
    assert by_class.rows[0]["class"] == task.classes[0]
    assert by_class.rows[0]["drop, points"] == pytest.approx(200 / n)
    assert confusion.rows[0][f"as {task.classes[1]}"] == 2
    assert [row["image"] for row in mistakes.rows] == [
        task.val.names[i] for i in np.flatnonzero(task.val.labels == 0)[:2]
    ]
    assert {row["fp32 is right"] for row in mistakes.rows} == {"yes"}
    assert (tmp_path / PICTURES).read_bytes().startswith(b"\xff\xd8"), "a JPEG file"
    assert {curve.name for curve in report.curves} == {"as certain as right", "fp32", "int8"}


def test_pictures_can_be_left_out(task, tmp_path):
    report = report_decisions(tmp_path, spoiled(task), task, images=False)
    assert len(report.tables) == 3
    assert [file.name for file in tmp_path.glob("*.*")] == [CLASSES]


def test_other_kinds_of_label_have_no_classes_to_compare(task, tmp_path):
    assert report_decisions(tmp_path, {}, task, images=True).rows == ()
    one = replace(task, output=replace(task.output, classes=("ant",)))
    assert report_decisions(tmp_path, spoiled(task), one, images=True).rows == ()
    assert list(tmp_path.glob("*.*")) == []


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"classes": 3, "counts": [], "right": {}}', "[" * 99_999,
                                     '{"classes": ["a"], "counts": [1], "right": {"fp32": [2]}}'])  # fmt: skip
def test_a_damaged_file_is_named(exported, tmp_path, content):
    shutil.copytree(exported.path, tmp_path / "copy")
    copy = Artifact.load(tmp_path / "copy")
    (copy.path / CLASSES).write_text(content)
    with pytest.raises(ModelFileError, match=CLASSES):
        class_counts(copy)


def test_what_is_written_is_plain_json(task, tmp_path):
    report_decisions(tmp_path, spoiled(task), task, images=False)
    plain = json.loads((tmp_path / CLASSES).read_text())
    assert plain["split"] == "val"
    assert plain["classes"] == list(task.classes)
