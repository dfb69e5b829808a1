import json
import os
import stat

import pytest

from effxfer.runtime.text import pretrained
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.pretrained import read_tokens
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, WORDS, byte_level, document, unigram


def write(folder, content: bytes = WORDPIECE, name: str = "tokenizer.json", **configs):
    (folder / name).write_bytes(content)
    for config, values in configs.items():
        (folder / f"{config}.json").write_text(json.dumps(values))
    return folder


def vocabulary(*words: str) -> bytes:
    return "\n".join([*WORDS[:5], *words, ""]).encode()


def refuse(folder, code: str) -> TextError:
    with pytest.raises(TextError) as caught:
        read_tokens(folder, 8)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


def test_a_tokenizer_is_taken_as_it_is(tmp_path):
    tokens = read_tokens(write(tmp_path), 8, stride=2)
    assert (tokens.tokenizer, tokens.size, tokens.pad, tokens.stride) == (WORDPIECE, 8, 0, 2)


@pytest.mark.parametrize(
    ("content", "configs", "pad"),
    [
        (byte_level(), {}, 1),
        (unigram(), {}, 0),
        (WHOLE_WORDS, {"tokenizer_config": {"pad_token": "[UNK]"}}, 0),
        (WHOLE_WORDS, {"tokenizer_config": {"pad_token": {"content": "a"}}}, 3),
        (WHOLE_WORDS, {"special_tokens_map": {"pad_token": "a"}}, 3),
        (WHOLE_WORDS, {"special_tokens_map": {"pad_token": "a"}, "tokenizer_config": {"pad_token": "[PAD]"}}, 1),
        (document(WHOLE_WORDS, padding={"pad_token": "a"}), {"tokenizer_config": {"pad_token": "[UNK]"}}, 3),
        (WHOLE_WORDS, {"tokenizer_config": {"pad_token": "absent"}}, 1),
        (WORDPIECE, {"tokenizer_config": {"pad_token": "[SEP]"}}, 0),
        (WORDPIECE, {"tokenizer_config": []}, 0),
    ],
)
def test_the_padding_token_is_the_one_that_is_stated(tmp_path, content, configs, pad):
    assert read_tokens(write(tmp_path, content, **configs), 8).pad == pad


def test_a_tokenizer_without_a_padding_token_is_refused(tmp_path):
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    write(tmp_path, document(WHOLE_WORDS, model=model, added_tokens=[]))
    assert "pad_token in tokenizer_config.json" in refuse(tmp_path, "E442").hint


def test_a_vocabulary_alone_is_a_bert_tokenizer(tmp_path):
    write(tmp_path, vocabulary("a", "cat", "##s", "\u0301x"), "vocab.txt")
    tokens = read_tokens(tmp_path, 16)
    assert tokens.decode("A [SEP] c\u00e1ts").tolist() == [2, 5, 1, 1, 1, 6, 7, 3]
    assert tokens.pad == 0
    assert read_tokens(tmp_path, 16, pattern="{text}{sep}{other}").decode(("a", "cat")).tolist() == [2, 5, 3, 6, 3]


def test_lower_case_follows_the_configuration_or_the_vocabulary(tmp_path):
    write(tmp_path, vocabulary("cat", "Cat"), "vocab.txt")
    assert read_tokens(tmp_path, 8).decode("Cat cat").tolist() == [2, 6, 5, 3]
    write(tmp_path, vocabulary("cat", "Cat"), "vocab.txt", tokenizer_config={"do_lower_case": True})
    assert read_tokens(tmp_path, 8).decode("Cat cat").tolist() == [2, 5, 5, 3]
    write(tmp_path, vocabulary("cat"), "vocab.txt", tokenizer_config={"do_lower_case": False})
    assert read_tokens(tmp_path, 8).decode("Cat cat").tolist() == [2, 1, 5, 3]


def test_options_of_a_bert_tokenizer_are_followed(tmp_path):
    words = vocabulary("e\u0301", "e", "\u4e2d", "\u4e2d\u4e2d")
    config = {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}
    write(tmp_path, words, "vocab.txt", tokenizer_config=config)
    assert read_tokens(tmp_path, 8).decode("e\u0301 \u4e2d\u4e2d").tolist() == [2, 5, 8, 3]
    write(tmp_path, words, "vocab.txt", tokenizer_config={"do_lower_case": True})
    assert read_tokens(tmp_path, 8).decode("e\u0301 \u4e2d\u4e2d").tolist() == [2, 6, 7, 7, 3]


def test_a_vocabulary_keeps_its_lines_as_ids(tmp_path):
    lines = [*WORDS[:5], "a", "\u2028", "", "b", "a\x85"]
    write(tmp_path, "\r\n".join(lines).encode(), "vocab.txt")
    tokens = read_tokens(tmp_path, 8).loaded.tokens
    assert [tokens[line] for line in lines] == list(range(10))


def test_special_tokens_have_the_stated_names(tmp_path):
    names = {"pad_token": "<p>", "unk_token": "<u>", "cls_token": {"content": "<c>"}, "sep_token": "<s>"}
    write(tmp_path, b"<p>\n<u>\n<c>\n<s>\na\n", "vocab.txt", special_tokens_map=names)
    assert read_tokens(tmp_path, 8).decode("a <s> b").tolist() == [2, 4, 1, 1, 1, 1, 3]


@pytest.mark.parametrize("content", [b"a\nb\n", b"", b"\xff\n", vocabulary()[:20]])
def test_a_vocabulary_without_the_tokens_of_bert_is_refused(tmp_path, content):
    write(tmp_path, content, "vocab.txt")
    assert "vocab.txt" in refuse(tmp_path, "E441").problem


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json"])
def test_another_format_comes_with_the_command_that_converts_it(tmp_path, name):
    write(tmp_path, b"x", name)
    error = refuse(tmp_path, "E444")
    assert f"holds {name} and no tokenizer.json" in error.problem
    assert "AutoTokenizer" in error.hint
    assert str(tmp_path) in error.hint


def test_a_folder_without_a_tokenizer_and_a_missing_folder_are_named(tmp_path):
    assert "holds no tokenizer" in refuse(tmp_path, "E441").problem
    assert "holds no tokenizer" in refuse(tmp_path / "absent", "E441").problem


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").mkdir()
    assert "it is a folder" in refuse(tmp_path, "E441").problem
    (tmp_path / "tokenizer.json").rmdir()
    write(tmp_path).joinpath("tokenizer_config.json").write_text("[" * 100_000)
    assert "tokenizer_config.json is no JSON" in refuse(tmp_path, "E441").problem
    (tmp_path / "tokenizer_config.json").unlink()
    monkeypatch.setattr(pretrained, "LARGEST_FILE", 10)
    assert "above the limit" in refuse(tmp_path, "E441").problem


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    assert stat.S_ISFIFO((tmp_path / "tokenizer.json").stat().st_mode)
    assert "a named pipe" in refuse(tmp_path, "E441").problem
    assert refuse(tmp_path, "E441").hint == "put a regular file there"
