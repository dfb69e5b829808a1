import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages.prune import channel_lottery as stage
from effxfer.stages.settings.prune_settings import Structured
from effxfer.stages.train.finetune import train
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
