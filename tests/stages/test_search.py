import pytest
import torch

from effxfer.errors import SettingsError
from tests import tiny


@pytest.fixture(scope="module")
def headed(tmp_path_factory, dense, data):
    return tiny.stage(
        "search", dense, tmp_path_factory.mktemp("search") / "head", data, taps=[["out"], ["stage2", "out"]]
    )


def test_the_body_stays_as_it_is(headed, dense):
    ours, theirs = headed.net().body.state_dict(), dense.net().body.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_head_it_found_is_in_the_network(headed):
    assert headed.manifest.edits[-1]["kind"] == "set_head"
    assert headed.manifest.edits[-1]["taps"] in (["out"], ["stage2", "out"])
    assert headed.manifest.report["accuracy/val"].value >= 75
    assert headed.manifest.classes == tiny.CLASSES


def test_repeats_bit_for_bit(headed, dense, data, tmp_path):
    again = tiny.stage("search", dense, tmp_path / "again", data, taps=[["out"], ["stage2", "out"]])
    ours, theirs = again.net().state_dict(), headed.net().state_dict()
    assert again.manifest.edits == headed.manifest.edits
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_layer_that_is_not_there_is_suggested(dense, data, tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'stage2'"):
        tiny.stage("search", dense, tmp_path / "out", data, taps=[["stagee2"]])
