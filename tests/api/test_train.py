import pytest

import effxfer as ex
from effxfer.errors import SettingsError
from effxfer.stages.settings.common import BOARD
from tests import tiny

PLAIN = {"device": "cpu", "options": tiny.PLAIN}


def test_finetune_starts_from_a_backbone_and_from_a_result(folder, tmp_path):
    backbone = ex.load("effxfer.net.cifar:resnet20", pretrained=False, size=16)
    data = {"source": str(folder), "val_fraction": 0.2, "test_fraction": 0.2}
    first = ex.finetune(backbone, out=tmp_path / "first", data=data, epochs=1, lr=0.01, **PLAIN)
    second = ex.finetune(first, out=tmp_path / "second", epochs=0, **PLAIN)
    assert second.manifest.parent == first.manifest.key
    assert second.accuracy == first.accuracy
    again = ex.finetune(str(first.path), out=tmp_path / "second", epochs=0, **PLAIN)
    assert again.manifest == second.manifest


def test_another_call_into_the_same_place_is_refused_without_force(dense, tmp_path):
    first = ex.finetune(dense, out=tmp_path / "out", epochs=0, **PLAIN)
    with pytest.raises(SettingsError, match="made from other settings"):
        ex.finetune(dense, out=tmp_path / "out", epochs=0, seed=1, **PLAIN)
    second = ex.finetune(dense, out=tmp_path / "out", epochs=0, seed=1, force=True, **PLAIN)
    assert second.manifest.key != first.manifest.key


def test_compete_tries_recipes(dense, tmp_path):
    recipes = {"full": {}, "probe": {"strategy": "probe"}}
    result = ex.compete(dense, out=tmp_path / "out", candidates=recipes, epochs=1, **PLAIN)
    assert set(result.manifest.settings["candidates"]) == set(recipes)
    assert len(next(table for table in result.report.tables if table.title == BOARD).rows) == 2


def test_learning_curve_has_a_row_for_each_number_of_labels(dense, tmp_path):
    result = ex.learning_curve(dense, out=tmp_path / "out", labels=[2, 4], repeats=1, epochs=1, min_steps=1, **PLAIN)
    assert result.manifest.settings["labels"] == [2, 4]


def test_qat_rounds_weights_while_it_trains(dense, tmp_path):
    assert ex.qat(dense, out=tmp_path / "out", bits=8, epochs=1, **PLAIN).manifest.settings["bits"] == 8


def test_search_head_tries_heads(dense, tmp_path):
    quick = {"epochs": 2, "finalists": 1, "startup": 2, "latency": False}
    result = ex.search_head(dense, out=tmp_path / "out", trials=2, device="cpu", **quick)
    assert result.manifest.settings["trials"] == 2
