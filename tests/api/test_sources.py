import pytest

import effxfer as ex
from effxfer.api.sources import data_table, network_of, table_of
from effxfer.errors import DataError, ModelFileError, SettingsError
from tests import tiny
from tests.data.text_files import texts, write_lines
from tests.runtime.text.tiny_tokenizers import tokens


def test_a_model_directory_is_opened(dense):
    result = ex.load(dense.path)
    assert result.manifest == dense.manifest
    assert result.classes == tiny.CLASSES
    assert result.network().classes == tiny.CLASSES


def test_a_bundled_model_is_opened():
    assert ex.load("resnet20-cifar10").classes[0] == "airplane"


def test_a_backbone_is_named_with_its_settings():
    backbone = ex.load("effxfer.net.cifar:resnet20", pretrained=False, size=16)
    assert backbone.settings == tiny.BACKBONE
    assert backbone.network().input.size == 16


def test_a_backbone_is_a_table_as_in_a_pipeline(dense):
    table = {"source": "effxfer.net.cifar:resnet20", "pretrained": False, "size": 16}
    assert network_of(table, {}) == network_of(table["source"], {"pretrained": False, "size": 16}) == tiny.BACKBONE
    assert network_of(table, {"size": 32}).size == 32
    assert network_of({"source": str(dense.path)}, {}).path == dense.path


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"source": "timm:resnet18", "sice": 32}, "did you mean 'size'"),
        ({"size": 32}, "source"),
        (3, "a int is no source of a network"),
        (None, "a NoneType is no source"),
    ],
)
def test_what_is_no_source_is_refused(source, text, tmp_path):
    with pytest.raises(SettingsError, match=text):
        ex.finetune(source, data="digits", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "settings", "error", "text"),
    [
        ("timm:resnet18", {"sice": 32}, SettingsError, "did you mean 'size'"),
        ("nowhere", {}, ModelFileError, "no model 'nowhere'"),
        ("resnet20-cifar10", {"size": 32}, SettingsError, "is a model already"),
    ],
)
def test_a_source_that_cannot_be_is_refused(source, settings, error, text):
    with pytest.raises(error, match=text):
        ex.load(source, **settings)


def test_settings_of_a_backbone_do_not_change_a_model(dense, tmp_path):
    with pytest.raises(SettingsError, match="is a model already"):
        ex.finetune(ex.load(dense.path), out=tmp_path / "out", settings={"backbone": {"size": 32}})


def test_data_are_listed_and_split(folder):
    dataset = ex.load_data(folder, val_fraction=0.2, test_fraction=0.2)
    assert dataset.classes == tiny.CLASSES
    assert dataset.counts == {"train": 36, "val": 12, "test": 12}
    assert str(dataset).startswith(f"{folder}: 3 classes; 36 train, 12 val, 12 test images")
    assert dataset.task(size=16).train.rows.shape == (36, 16, 16, 3)


@pytest.mark.parametrize(
    ("source", "settings", "error", "text"),
    [("nowhere", {}, DataError, "nowhere"), ("digits", {"val_fracton": 0.2}, SettingsError, "did you mean 'val_frac")],
)
def test_data_that_cannot_be_are_refused(source, settings, error, text):
    with pytest.raises(error, match=text):
        ex.load_data(source, **settings)


def test_data_are_a_path_a_table_or_an_object(folder):
    dataset = ex.load_data(folder, skip_bad=True)
    assert data_table(None, {"skip_bad": True}) == {"skip_bad": True}
    assert data_table(folder, {"skip_bad": True}) == {"source": str(folder), "skip_bad": True}
    assert data_table({"source": "a", "skip_bad": False}, {"skip_bad": True}) == {"source": "a", "skip_bad": True}
    assert data_table(dataset, {}) == data_table(dataset.settings, {}) == dataset.settings.plain()


def test_a_table_of_settings_wins_over_keywords():
    table = table_of({"fit": {"epochs": 4}, "round_to": 4}, {"round_to": 8, "scope": "layer"}, fit__epochs=3, fit__lr=1)
    assert table == {"fit": {"epochs": 4, "lr": 1}, "round_to": 4, "scope": "layer"}


def test_texts_are_listed_and_decoded_for_a_network(tmp_path):
    dataset = ex.load_data(write_lines(tmp_path / "reviews.txt", texts(20)))
    assert dataset.counts == {"train": 32, "val": 4, "test": 4}
    assert str(dataset).splitlines()[0].endswith("2 classes; 32 train, 4 val, 4 test texts")
    assert len(dataset.task(input=tokens()).train.rows) == 32
    with pytest.raises(SettingsError, match="this network takes images"):
        dataset.task()
