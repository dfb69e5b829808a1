from copy import deepcopy

import pytest
import torch
from torch import nn

from effxfer.data.load import load
from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages.prune import channel_lottery as stage
from effxfer.stages.prune.calibration import plain_batches, recalibrate_on_
from effxfer.stages.settings.prune_settings import Structured
from effxfer.stages.train.finetune import train
from effxfer.train.devices import pick_device
from effxfer.train.state import Work
from tests import tiny

STRUCTURED = "prune structured"


def test_reports_channels_and_every_round(dense, data, tmp_path):
    made = tiny.stage(STRUCTURED, dense, tmp_path / "out", data)
    report, net = made.manifest.report, made.net()
    assert report["sparsity/channels"].value == pytest.approx(50, abs=1)
    assert report["rounds"].value == 2
    assert len(report.curves[0].points) == 3
    assert any(name.endswith("bn1.bias") for name in net.masks())
    for name, keep in net.masks().items():
        assert not bool(net.get_parameter(name)[~keep].any())


def test_statistics_that_training_hardly_moves_are_those_of_the_data_after_the_cut(dense, data):
    net, device = dense.net(), pick_device("cpu")
    task = load(data, net.input)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 1e-3
    fit = {**tiny.FIT, "epochs": 1, "lr": 1e-6}
    settings = tiny.settings_of(STRUCTURED, ratio=0.6, rounds=1, fit=fit)
    trained, report = stage.structured(net, [task], settings, device=device, work=Work(None))
    assert report["sparsity/channels"].value == pytest.approx(60, abs=1)
    expected = deepcopy(trained)
    recalibrate_on_(expected, plain_batches(task, 64, device, 0))
    theirs = dict(expected.named_buffers())
    for name, buffer in trained.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(buffer, theirs[name], rtol=0.05, atol=0.01, msg=name)


def test_goes_on_after_a_cut_bit_for_bit(dense, data, tmp_path, monkeypatch):
    more = {"importance": "taylor", "rewind": 0.5, "rounds": 1, "fit": {**tiny.FIT, "epochs": 1}}
    whole = tiny.stage(STRUCTURED, dense, tmp_path / "whole", data, **more)
    seen = []
    monkeypatch.setattr(stage, "train", tiny.cut_off(train, seen, "structured round 1 of 1"))
    with pytest.raises(KeyboardInterrupt):
        tiny.stage(STRUCTURED, dense, tmp_path / "cut", data, **more)
    resumed = tiny.stage(STRUCTURED, dense, tmp_path / "cut", data, **more)
    assert seen.count("structured round 0 of 1") == 1
    ours, theirs = resumed.net().state_dict(), whole.net().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("options", "text"), [({}, "set ratio"), ({"ratio": 0.5, "rewind": 3.0}, "rewind to an early epoch")]
)
def test_settings_without_sense_are_refused(options, text):
    with pytest.raises(SettingsError, match=text):
        build(Structured, options, STRUCTURED)
