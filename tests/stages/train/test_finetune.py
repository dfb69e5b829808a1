from math import log

import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.train.finetune import training_curves
from effxfer.stages.train.head import new_head
from effxfer.transfer.strategies import make_strategy
from tests import tiny


def test_learns(dense):
    report = dense.manifest.report
    assert report["accuracy/val"].value >= 90
    assert report["accuracy/test"].value >= 90
    assert report["accuracy/test"].n == 12
    assert [curve.title for curve in report.curves] == ["Training loss", "Validation accuracy"]
    losses = [loss for _, loss in report.curves[0].points]
    assert len(losses) == tiny.FIT["epochs"]
    assert losses[-1] < log(3), "better than guessing"


def test_no_epochs_measure_the_network_as_it_is(dense, data, tmp_path):
    made = tiny.stage("finetune", dense, tmp_path / "same", data, fit={"epochs": 0})
    before, after = dense.net().state_dict(), made.net().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert made.manifest.report["accuracy/val"] == dense.manifest.report["accuracy/val"]
    assert made.manifest.parent == dense.manifest.key


def test_a_head_for_the_same_classes_stays(dense, data, tmp_path):
    net = dense.net()
    task = load_task(data, net.input, RunContext(out=tmp_path / "out"))
    head = net.head
    assert new_head(net, task, 0) is False
    assert net.head is head
    net.output = SingleLabel(classes=("one", "other"))
    assert new_head(net, task, 0) is True
    assert net.classes == tiny.CLASSES


def test_a_strategy_that_is_not_there_is_suggested():
    with pytest.raises(SettingsError, match="did you mean 'full'"):
        make_strategy("fulll", {})


def test_options_are_checked_against_the_strategy():
    with pytest.raises(SettingsError, match="did you mean 'batch'"):
        make_strategy("full", {"bach": 3})


def test_no_training_shows_no_curves():
    assert not training_curves([]).rows
