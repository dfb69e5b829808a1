import numpy as np
import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.report import Measurement, Report
from effxfer.settings import build
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.settings.common import LearningCurve
from effxfer.stages.train import finetune as module
from effxfer.stages.train.finetune import train
from effxfer.stages.train.learning_curve import EPOCHS, LABELS, curve_report, select_few
from tests import tiny


@pytest.fixture
def task(tmp_path, dense, data):
    return load_task(data, dense.net().input, RunContext(out=tmp_path / "x", cache=tmp_path / "cache"))


def test_few_are_among_more_and_alike_in_every_class(task):
    small, large = select_few(task, 2, 7), select_few(task, 5, 7)
    assert np.bincount(small.train.labels).tolist() == [2, 2, 2]
    assert np.bincount(large.train.labels).tolist() == [5, 5, 5]
    assert set(small.train.names) < set(large.train.names)
    assert set(select_few(task, 2, 8).train.names) != set(small.train.names)
    assert len(small.val) == len(task.val)
    assert len(small.train.canvas) == len(small.train.aspect) == 6


def test_more_labels_are_worth_more_and_the_result_is_of_all(tmp_path, data):
    fit = {**tiny.FIT, "epochs": 6}
    made = tiny.stage("curve", tiny.BACKBONE, tmp_path / "curve", data, labels=(1, 4, 500), repeats=2, fit=fit)
    whole = tiny.finetune(tmp_path / "whole", data, fit=fit)
    ours, theirs = made.net().state_dict(), whole.net().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    report = made.manifest.report
    (table,) = (table for table in report.tables if table.title == LABELS)
    assert [row["labels per class"] for row in table.rows] == ["1", "4", "all (12)"]
    assert [row["repeats"] for row in table.rows] == [2, 2, 1]
    assert table.rows[0]["epochs"] == 6, "three images are one step per epoch"
    assert {curve.title for curve in report.curves} >= {LABELS, EPOCHS}
    (points,) = (curve.points for curve in report.curves if (curve.title, curve.name) == (LABELS, "val"))
    assert [x for x, _ in points] == [1, 1, 4, 4, 12]
    assert "skipped 500 labels per class: the smallest class has 12 training images" in report.notes


def test_the_epochs_that_ran_are_told_not_those_that_were_asked_for():
    runs = [
        {"labels": 1, "repeat": n, "val": 50.0, "test": 50.0, "epochs": epochs, "passes": []}
        for n, epochs in enumerate((3, 5))
    ]
    rows = [Measurement(name=name, value=90.0) for name in ("accuracy/val", "accuracy/test")]
    whole = Report(rows=(*rows, Measurement(name="epochs", value=2)))
    report = curve_report(runs, whole, 12.0, tiny.settings_of("curve", fit={**tiny.FIT, "epochs": 9}), 12)
    assert [row["epochs"] for row in report.tables[0].rows] == ["3 to 5", 2]


def test_goes_on_after_a_cut_and_trains_nothing_twice(tmp_path, dense, data, monkeypatch):
    labels = []
    monkeypatch.setattr(module, "train", tiny.cut_off(train, labels, 2))
    with pytest.raises(KeyboardInterrupt):
        tiny.stage("curve", dense, tmp_path / "cut", data)
    resumed = tiny.stage("curve", dense, tmp_path / "cut", data)
    assert labels == ["2 labels per class, 1 of 1", *["4 labels per class, 1 of 1"] * 2, "train"]
    whole = tiny.stage("curve", dense, tmp_path / "whole", data)
    assert resumed.manifest.report.tables == whole.manifest.report.tables


@pytest.mark.parametrize("labels", [(0, 1), (5, 2), (2, 2)])
def test_numbers_of_labels_ascend_from_one(labels):
    with pytest.raises(SettingsError, match="labels"):
        build(LearningCurve, {"labels": labels}, "curve")
