import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.stages.run import Where, load_task
from effxfer.stages.search import search
from effxfer.train.devices import pick
from effxfer.train.state import Work
from tests import tiny


@pytest.fixture(scope="module")
def headed(tmp_path_factory, dense, data):
    return tiny.stage(
        "search", dense, tmp_path_factory.mktemp("search") / "head", data, taps=[["out"], ["stage2", "out"]],
        confidence=0.0,
    )  # fmt: skip


def test_the_body_stays_as_it_is(headed, dense):
    ours, theirs = headed.net().body.state_dict(), dense.net().body.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_head_it_found_is_in_the_network(headed):
    assert headed.manifest.edits[-1]["kind"] == "set_head"
    assert headed.manifest.edits[-1]["taps"] in (["out"], ["stage2", "out"])
    assert headed.manifest.report["accuracy/val"].value >= 75
    assert headed.manifest.classes == tiny.CLASSES


def test_repeats_bit_for_bit(headed, dense, data, tmp_path):
    again = tiny.stage("search", dense, tmp_path / "again", data, taps=[["out"], ["stage2", "out"]], confidence=0.0)
    ours, theirs = again.net().state_dict(), headed.net().state_dict()
    assert again.manifest.edits == headed.manifest.edits
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_layer_that_is_not_there_is_suggested(dense, data, tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'stage2'"):
        tiny.stage("search", dense, tmp_path / "out", data, taps=[["stagee2"]])


def test_a_head_that_is_as_good_stays(dense, data, tmp_path):
    made = tiny.stage("search", dense, tmp_path / "kept", data, taps=[["out"]])
    ours, theirs = made.net().state_dict(), dense.net().state_dict()
    assert made.manifest.edits == dense.manifest.edits
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    report = made.manifest.report
    assert any(note.startswith("the head stays") for note in report.notes)
    assert report["present head accuracy/val"].value == report["accuracy/val"].value


def test_a_worse_head_is_replaced(dense, data, tmp_path):
    net = dense.net()
    for parameter in net.head.parameters():
        parameter.data.zero_()
    task = load_task(data, net.preprocess, Where(out=tmp_path / "out"))
    settings = tiny.settings_of("search", taps=[["out"]])
    net, report = search(net, [task], settings, device=pick("cpu"), work=Work(None))
    assert report["accuracy/val"].value >= 75
    assert not any(note.startswith("the head stays") for note in report.notes)
