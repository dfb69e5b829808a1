import pytest

import effxfer as ex
from effxfer.errors import SettingsError
from tests import tiny


def test_a_preview_says_what_a_call_would_do(dense, tmp_path):
    plan = ex.preview(ex.finetune, dense, out=tmp_path / "out", epochs=3, settings={"fit": {"ema": 0.9}})
    assert (plan["stage"], plan["done"], plan["out"]) == ("finetune", False, str(tmp_path / "out"))
    assert (plan["settings"]["fit"]["epochs"], plan["settings"]["fit"]["ema"]) == (3, 0.9)
    assert plan["images"] == [{"train": 36, "val": 12, "test": 12}]
    assert list(tmp_path.iterdir()) == []


def test_a_preview_knows_what_is_done(dense, data):
    settings = {**tiny.QUICK["finetune"]}
    plan = ex.preview(ex.finetune, tiny.BACKBONE, out=dense.path, data=data, device="cpu", settings=settings)
    assert plan["done"]


@pytest.mark.parametrize("keywords", [{"epohcs": 3}, {"settings": {"fit": {"epoch": 3}}}, {"fit": {"epoch": 3}}])
def test_mistakes_are_named_with_what_was_meant(dense, tmp_path, keywords):
    with pytest.raises(SettingsError, match=r"unknown setting|did you mean 'epochs'"):
        ex.finetune(dense, out=tmp_path / "out", **keywords)
    assert list(tmp_path.iterdir()) == []


def test_a_function_without_a_preview_is_refused(folder):
    with pytest.raises(SettingsError, match="load_data has no preview"):
        ex.preview(ex.load_data, folder)


def test_after_a_preview_calls_do_something_again(dense, tmp_path):
    ex.preview(ex.finetune, dense, out=tmp_path / "out", epochs=0, device="cpu")
    assert ex.finetune(dense, out=tmp_path / "out", epochs=0, device="cpu").path == tmp_path / "out"
