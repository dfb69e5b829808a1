import pytest

from effxfer.deploy.export.input_files import copy_input_files, require_own_folder, write_input_files
from effxfer.errors import ModelFileError
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, tokens
from tests.tiny_net import PREPROCESS


def test_the_tokenizer_of_a_text_is_written_and_nothing_for_an_image(tmp_path):
    write_input_files(PREPROCESS, tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_input_files(tokens(), tmp_path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [WORDPIECE]


def test_a_folder_of_another_tokenizer_is_refused(tmp_path):
    file = tmp_path / "model.onnx"
    require_own_folder(file, tokens())
    write_input_files(tokens(), tmp_path)
    require_own_folder(file, tokens())
    require_own_folder(file, PREPROCESS)
    (tmp_path / "tokenizer.json").write_bytes(WHOLE_WORDS)
    with pytest.raises(ModelFileError, match=r"tokenizer.json belongs to another model") as caught:
        require_own_folder(file, tokens())
    assert caught.value.code == "E446"


def test_files_made_from_a_model_get_its_tokenizer_and_nothing_else(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "model.onnx.data").touch()
    copy_input_files(tmp_path / "model.onnx", tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
    write_input_files(tokens(), tmp_path)
    copy_input_files(tmp_path / "model.onnx", tmp_path / "scratch")
    assert (tmp_path / "scratch" / "tokenizer.json").read_bytes() == WORDPIECE
    assert len(list((tmp_path / "scratch").iterdir())) == 1
