import pytest
import timm
import torch
from safetensors.torch import save_file

from effxfer.benchmark.protocol import latency as protocol
from effxfer.errors import DataError, SettingsError
from effxfer.net.backbones.pretrained import source_classifier
from effxfer.net.settings import BackboneSettings
from effxfer.settings import build
from effxfer.stages.data.rank_backbones import COLUMNS, rank
from effxfer.stages.runner.backbone_names import short_names
from effxfer.stages.runner.context import RunContext
from effxfer.stages.settings.common import Rank
from effxfer.transferability import SCORES
from tests import tiny

RANDOM = {"source": "effxfer.net.cifar:resnet20", "pretrained": False, "size": 16}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(protocol, "MIN_ROUNDS", 2)


@pytest.fixture
def data(tmp_path):
    return tiny.data_of(tiny.write_images(tmp_path / "images"))


def made(tmp_path, data, *backbones, **more):
    settings = build(Rank, {"backbones": list(backbones), "max_seconds": 0.3, **more}, "rank")
    return rank(settings, data, RunContext(out=tmp_path / "rank", device="cpu", cache=tmp_path / "cache"))


@pytest.mark.slow
def test_a_model_that_knows_the_task_comes_before_a_random_one(tmp_path, data):
    known = tiny.finetune(tmp_path / "known", data)
    report = made(tmp_path, data, RANDOM, str(known.path), by="logme")
    first, second = report.tables[0].rows
    assert (first["backbone"], second["backbone"]) == ("known", "effxfer.net.cifar:resnet20")
    assert first["LogME"] > second["LogME"]
    assert first["LEEP"] > -0.5
    assert second["LEEP"] is None
    assert "yes" in {row["front"] for row in report.tables[0].rows}
    assert all(row["p50 ms"] > 0 and row["side px"] == 16 for row in report.tables[0].rows)


def test_the_classifier_of_a_weights_file_is_the_source(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("resnet10t", num_classes=7)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    backbone = BackboneSettings(source=f"timm:resnet10t@{tmp_path / 'weights.safetensors'}")
    found = source_classifier(backbone, 512)
    assert torch.equal(found.weight, whole.fc.weight)
    assert torch.equal(found.bias, whole.fc.bias)
    assert source_classifier(backbone, 100) is None
    assert source_classifier(backbone.model_copy(update={"pretrained": False}), 512) is None


def test_names_are_short_and_told_apart():
    backbones = ["timm:a@x/one.pth", "timm:a@x/two.pth", "some/where/model"]
    assert list(short_names(build(Rank, {"backbones": backbones}, "rank").backbones)) == [*backbones[:2], "model"]
    with pytest.raises(SettingsError, match="timm:a is named twice"):
        short_names(build(Rank, {"backbones": ["timm:a", "timm:a"]}, "rank").backbones)


def test_it_needs_backbones():
    with pytest.raises(SettingsError, match="backbones"):
        build(Rank, {}, "rank")


def test_every_score_has_a_column():
    assert COLUMNS.keys() == SCORES.keys()


def test_it_says_how_many_images_it_needs(tmp_path):
    data = tiny.data_of(tiny.write_images(tmp_path / "images", per_class=2))
    with pytest.raises(DataError, match="at least one class needs two") as caught:
        made(tmp_path, data, RANDOM)
    assert caught.value.code == "E313"
