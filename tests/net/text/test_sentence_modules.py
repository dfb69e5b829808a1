import pytest

from effxfer.errors import ModelFileError
from effxfer.net.text.sentence_modules import read_modules
from tests.net.text.folders import write_json


def pooled(folder, **config):
    write_json(folder / "1_Pooling" / "config.json", config)
    return read_modules(folder).pooling


def test_without_a_word_in_the_folder_tokens_are_averaged(tmp_path):
    modules = read_modules(tmp_path)
    assert (modules.network, modules.pooling, modules.normalized, modules.longest) == (tmp_path, "mean", False, 0)


@pytest.mark.parametrize(("mode", "pooling"), [("mean", "mean"), ("cls", "first")])
def test_pooling_is_read_in_the_newer_form(tmp_path, mode, pooling):
    assert pooled(tmp_path, pooling_mode=mode) == pooling


@pytest.mark.parametrize(("mode", "pooling"), [("mean_tokens", "mean"), ("cls_token", "first")])
def test_pooling_is_read_in_the_older_form(tmp_path, mode, pooling):
    flags = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False, "pooling_mode_max_tokens": False}
    assert pooled(tmp_path, **{**flags, f"pooling_mode_{mode}": True}) == pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_tokens": False},
        {"pooling_mode_lasttoken": True},
    ],
)
def test_other_poolings_are_refused(tmp_path, config):
    with pytest.raises(ModelFileError, match="tokens are pooled by") as error:
        pooled(tmp_path, **config)
    assert error.value.code == "E435"


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../..", "a/b", "x\0y", 3, None])
def test_a_module_outside_of_the_folder_is_refused(tmp_path, path):
    write_json(tmp_path / "modules.json", [{"type": "sentence_transformers.models.Transformer", "path": path}])
    with pytest.raises(ModelFileError, match="which is not inside") as error:
        read_modules(tmp_path)
    assert error.value.code == "E434"


@pytest.mark.parametrize("content", [{}, [1], [{}] * 99, "x"])
def test_a_list_of_modules_that_is_none_is_refused(tmp_path, content):
    write_json(tmp_path / "modules.json", content)
    with pytest.raises(ModelFileError, match="is no list of modules"):
        read_modules(tmp_path)


@pytest.mark.parametrize(("length", "longest"), [(256, 256), (None, 0), (-3, 0), ("7", 0), (10**9, 0)])
def test_the_length_of_texts_is_read_if_it_is_one(tmp_path, length, longest):
    write_json(tmp_path / "sentence_roberta_config.json", {"max_seq_length": length})
    assert read_modules(tmp_path).longest == longest
