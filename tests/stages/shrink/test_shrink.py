"""All ways compete at one latency; latency is multiply-adds (`counted`)."""

import pytest
import torch

from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.stages.shrink import trials
from effxfer.stages.train.finetune import train
from tests import tiny
from tests.stages.shrink.counted import counted  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("counted")
TWO = {"latency_ratio": 0.7, "kinds": ["exit", "images"], "fit": {**tiny.FIT, "epochs": 3}}
BOARD, REFUSED = "Candidates at this latency", "Ways without a candidate"


def table(made, title=BOARD):
    return next((list(table.rows) for table in made.manifest.report.tables if table.title == title), [])


def equal(first, second):
    ours, theirs = first.net().state_dict(), second.net().state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_better_one_wins_and_is_trained_longest(dense, data, tmp_path):
    made = tiny.stage("shrink", dense, tmp_path / "out", data, **TWO)
    first, second = table(made)
    assert {first["candidate"], second["candidate"]} == {
        "effxfer.net.cifar:resnet20, exit",
        "effxfer.net.cifar:resnet20, images",
    }
    assert first["round 1 %"] >= second["round 1 %"]
    assert (first["epochs"], second["epochs"]) == (3, 1)
    assert second["round 2 %"] is None
    report = made.manifest.report
    assert report["latency/measured"].value <= report["latency/asked"].value == 0.7
    assert first["accuracy val %"] == report["accuracy/val"].value
    assert any(note.startswith("in round 1 the winner, ") and "noise" in note for note in report.notes)
    assert any(note.startswith("the input network in float32 has") for note in report.notes)
    names = {first["candidate"], second["candidate"], "input network, float32", "nothing beats these"}
    assert {curve.name for curve in report.curves} == names


def test_goes_on_after_a_cut_and_does_nothing_twice(dense, data, tmp_path, monkeypatch):
    labels = []
    monkeypatch.setattr(trials, "train", tiny.cut_off(train, labels, 2))
    with pytest.raises(KeyboardInterrupt):
        tiny.stage("shrink", dense, tmp_path / "cut", data, **TWO)
    resumed = tiny.stage("shrink", dense, tmp_path / "cut", data, **TWO)
    assert labels[1] == labels[2], "the first is not trained again"
    assert len(labels) == 4
    whole = tiny.stage("shrink", dense, tmp_path / "whole", data, **TWO)
    assert equal(resumed, whole)
    assert [row["accuracy val %"] for row in table(resumed)] == [row["accuracy val %"] for row in table(whole)]


@pytest.mark.slow
def test_another_backbone_competes_as_it_is_or_made_faster(dense, data, tmp_path):
    small = {"source": "effxfer.net.conv4:conv4", "pretrained": False}
    made = tiny.stage(
        "shrink", dense, tmp_path / "out", data, latency_ratio=0.6, kinds=["channels", "images"], backbones=[small],
        fit={**tiny.FIT, "epochs": 1},
    )  # fmt: skip
    names = {row["candidate"] for row in table(made) + table(made, REFUSED)}
    assert any(name.startswith("effxfer.net.conv4:conv4") for name in names)
    assert "effxfer.net.conv4:conv4, channels" not in names, "its head is not trained"


@pytest.mark.slow
def test_a_training_as_long_as_the_last_one_is_not_repeated(dense, data, tmp_path, monkeypatch):
    labels = []
    monkeypatch.setattr(trials, "train", tiny.cut_off(train, labels, 99))
    three = {"kinds": ["exit", "images", "uniform channels"], "eta": 2, "fit": {**tiny.FIT, "epochs": 2}}
    made = tiny.stage("shrink", dense, tmp_path / "out", data, latency_ratio=0.7, **three)
    assert [label[0] for label in labels] == ["1", "1", "1", "3"], "rounds of 1, 1 and 2 epochs"
    first = table(made)[0]
    assert first["round 1 %"] == first["round 2 %"]


def test_a_training_that_lowers_the_score_is_not_kept(dense, data, tmp_path):
    ruinous = {**TWO, "kinds": ["exit"], "fit": {**tiny.FIT, "epochs": 1, "lr": 10.0}}
    made = tiny.stage("shrink", dense, tmp_path / "out", data, **ruinous)
    (row,) = table(made)
    assert row["epochs"] == 0
    assert row["accuracy val %"] == row["before %"] == made.manifest.report["accuracy/val"].value
    assert any("as it was before its training, which lowered it to" in note for note in made.manifest.report.notes)


def test_candidates_that_there_is_no_time_for_are_named(dense, data, tmp_path):
    made = tiny.stage("shrink", dense, tmp_path / "out", data, **TWO, seconds=1e-3)
    (row,) = table(made)
    assert row["candidate"].endswith("exit"), "one is built"
    assert (row["epochs"], row["accuracy val %"]) == (0, row["before %"]), "it ships as it is: no step fits"
    notes = made.manifest.report.notes
    assert any(note.startswith("as built, because the time limit left none for a training: ") for note in notes)
    assert any(note.startswith("took ") and "the time limit is 0 s" in note for note in notes)
    (late,) = table(made, REFUSED)
    assert late["reason"] == "not built, because the time limit was near"


def test_a_latency_that_nothing_reaches_names_the_nearest(dense, data, tmp_path):
    with pytest.raises(
        GateError, match=r"no candidate reaches .* 0\.001 x: the nearest is .*exit with 0\.\d+ x"
    ) as caught:
        tiny.stage("shrink", dense, tmp_path / "out", data, latency_ratio=0.001)
    assert (caught.value.exit_code, caught.value.code) == (6, "E604")


@pytest.mark.parametrize("request_", [{"latency_ratio": 0.001}, {"latency_ratio": 0.6, "precision": "int8"}])
def test_on_request_the_network_stays_where_nothing_is_better(request_, dense, data, tmp_path):
    made = tiny.stage("shrink", dense, tmp_path / "out", data, if_none="keep", **request_)
    assert equal(made, dense)
    assert made.manifest.report["accuracy/val"].value == dense.manifest.report["accuracy/val"].value
    (note,) = [note for note in made.manifest.report.notes if note.startswith("the network stays as it was")]
    assert "takes only 0.500" in note or "no candidate reaches" in note


def test_a_latency_above_the_present_one_is_refused(dense, data, tmp_path):
    with pytest.raises(SettingsError, match=r"latency_ms is 11, but the float32 file of the network takes only 10 ms"):
        tiny.stage("shrink", dense, tmp_path / "out", data, latency_ratio=None, latency_ms=11.0)
    with pytest.raises(SettingsError, match=r"latency_ratio is 0\.6, but the int8 file .* takes only 0\.500"):
        tiny.stage("shrink", dense, tmp_path / "out", data, latency_ratio=0.6, precision="int8")


def test_wrong_inputs_are_refused_by_name(dense, data, tmp_path):
    with pytest.raises(SettingsError, match="exactly one of latency_ratio, latency_ms and max_drop"):
        tiny.settings_of("shrink", max_drop=1.0)
    with pytest.raises(SettingsError, match="this one has no head"):
        tiny.stage("shrink", tiny.BACKBONE, tmp_path / "out", data)
    with pytest.raises(SettingsError, match="timm:resnet5o"):
        tiny.stage("shrink", dense, tmp_path / "out", data, backbones=["timm:resnet5o"])
    with pytest.raises(SettingsError, match="is already a candidate"):
        tiny.stage("shrink", dense, tmp_path / "out", data, backbones=[{**tiny.BACKBONE.plain()}])
    with pytest.raises(ModelFileError, match="weights"):
        tiny.stage(
            "shrink", dense, tmp_path / "out", data, backbones=[f"timm:test_resnet@{dense.path}/weights.safetensors"]
        )


@pytest.mark.slow
def test_int8_is_scored_by_the_file_that_ships(dense, data, tmp_path):
    settings = {"latency_ratio": 0.35, "precision": "int8", "fit": {**tiny.FIT, "epochs": 1}}
    made = tiny.stage("shrink", dense, tmp_path / "out", data, **settings)
    (row,) = table(made)
    report = made.manifest.report
    assert row["accuracy val %"] == report["accuracy/val/int8"].value
    assert row["float32 %"] == report["accuracy/val"].value
