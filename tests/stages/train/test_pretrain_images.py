"""Pretraining on images without labels, as a stage."""

import shutil

import pytest

from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.stages.settings.pretrain_settings import Pretrain, PretrainFit
from tests import tiny

OPTIONS = {"batch": 16, "width": 16, "augment": {"scale": 0.5}}
PRETRAIN = {"strategy": "vicreg", "options": OPTIONS, "fit": {"epochs": 2, "lr": 0.003, "warmup": 0.0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images in class folders."""
    return tiny.write_images(tmp_path_factory.mktemp("images") / "classes", per_class=16)


@pytest.fixture(scope="module")
def flat(folder):
    """The same images in one folder."""
    loose = folder.parent / "loose"
    loose.mkdir()
    for number, file in enumerate(sorted(folder.rglob("*.*"))):
        shutil.copy(file, loose / f"{number}{file.suffix}")
    return DataSettings(source=str(loose), labels="none")


@pytest.fixture(scope="module")
def pretrained(folder, flat):
    return tiny.stage("pretrain", tiny.BACKBONE, folder.parent / "own", flat, **PRETRAIN)


def test_loose_images_give_a_backbone_with_a_rank_and_no_accuracy(pretrained):
    names = [row.name for row in pretrained.manifest.report.rows]
    assert names[0] == "rank/val"
    assert "rank/val/before" in names
    assert not [name for name in names if name.startswith(("knn", "probe", "accuracy"))]
    assert pretrained.manifest.classes == ()
    assert [curve.y for curve in pretrained.manifest.report.curves] == ["loss", "effective rank"]


def test_class_folders_are_for_reports_alone(folder, tmp_path):
    data = DataSettings(source=str(folder), labels="none", val_fraction=0.2, test_fraction=0.2)
    report = tiny.stage("pretrain", tiny.BACKBONE, tmp_path / "own", data, **PRETRAIN).manifest.report
    for name in ("knn/val", "probe/val", "knn/test", "probe/test", "knn/val/before"):
        assert 0 <= report[name].value <= 100
    assert report["probe/val"].n == 10


def test_it_is_the_same_to_the_bit_when_it_is_made_again(pretrained, flat, tmp_path):
    again = tiny.stage("pretrain", tiny.BACKBONE, tmp_path / "again", flat, **PRETRAIN)
    assert again.manifest.key == pretrained.manifest.key
    assert again.manifest.files["weights.safetensors"] == pretrained.manifest.files["weights.safetensors"]


def test_later_stages_take_it_and_export(pretrained, folder, tmp_path):
    data = tiny.data_of(folder)
    tuned = tiny.stage("finetune", pretrained, tmp_path / "tuned", data, strategy="probe", options={"batch": 8})
    assert tuned.net().classes == tiny.CLASSES
    report = tiny.stage("export", tuned, tmp_path / "onnx", data, int8=False).manifest.report
    assert report["parity/agreement"].value == 100


def test_tickets_are_drawn_from_it(pretrained, folder, tmp_path):
    ticket = tiny.stage("prune lottery", pretrained, tmp_path / "ticket", tiny.data_of(folder), rounds=1)
    assert ticket.net().masks()


def test_a_head_of_a_network_that_goes_on_is_removed(pretrained, folder, flat, tmp_path):
    tuned = tiny.stage("finetune", pretrained, tmp_path / "tuned", tiny.data_of(folder), fit={"epochs": 0})
    again = tiny.stage("pretrain", tuned, tmp_path / "again", flat, **{**PRETRAIN, "fit": {"epochs": 0}})
    assert again.net().classes == ()
    assert not [edit for edit in again.manifest.edits if edit["kind"] == "set_head"]


def test_stages_that_need_labels_refuse_loose_images(pretrained, flat, tmp_path):
    with pytest.raises(SettingsError, match="strategy 'full' needs labels, and loose has none") as caught:
        tiny.stage("finetune", pretrained, tmp_path / "x", flat)
    assert "learns from images alone" in caught.value.hint


def test_settings_without_an_effect_are_refused(flat, tmp_path):
    with pytest.raises(SettingsError, match="teacher has no effect on strategy 'vicreg'"):
        tiny.stage("pretrain", tiny.BACKBONE, tmp_path / "x", flat, **PRETRAIN, teacher="effxfer.net.cifar:resnet20")


def test_defaults_are_those_of_the_kind_of_input():
    image, text = Pretrain().for_input("image"), Pretrain().for_input("text")
    assert (image.strategy, image.fit.epochs, image.fit.clip) == ("vicreg", 20, 0)
    assert (text.strategy, text.fit.epochs, text.fit.clip, text.fit.lr) == ("mlm", 4, 1, 5e-4)
    assert Pretrain(fit=PretrainFit(epochs=3)).for_input("image").fit.epochs == 3


def test_an_empty_folder_is_refused(tmp_path):
    tmp_path.joinpath("photos").mkdir()
    data = DataSettings(source=str(tmp_path / "photos"), labels="none")
    with pytest.raises(DataError, match="no images found"):
        tiny.stage("pretrain", tiny.BACKBONE, tmp_path / "x", data)
