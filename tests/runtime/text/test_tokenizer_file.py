import json

import pytest

from effxfer.runtime.text import tokenizer_file
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.tokenizer_file import read_document, vocabulary
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, WORDS, added, byte_level, document, unigram


def refuse(content: bytes, code: str = "E445") -> str:
    with pytest.raises(TextError) as caught:
        read_document(content)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value.problem


@pytest.mark.parametrize("content", [WORDPIECE, WHOLE_WORDS, unigram(), byte_level()])
def test_known_tokenizers_are_accepted_without_truncation_padding_and_decoder(content):
    truncation = {"max_length": 3, "strategy": "LongestFirst", "stride": 0}
    accepted = read_document(document(content, truncation=truncation, padding={"pad_id": 0}, decoder={"type": "X"}))
    assert (accepted["truncation"], accepted["padding"], accepted["decoder"]) == (None, None, None)
    assert accepted["model"]["vocab"] == json.loads(content)["model"]["vocab"]
    assert accepted["pre_tokenizer"] == json.loads(content)["pre_tokenizer"]


def test_the_vocabulary_includes_added_tokens():
    content = document(WORDPIECE, added_tokens=[added("[NEW]", 99)])
    assert vocabulary(read_document(content)) == {word: i for i, word in enumerate(WORDS)} | {"[NEW]": 99}
    assert vocabulary(read_document(unigram()))["▁b"] == 3


@pytest.mark.parametrize("kind", ["vocabulary", "added"])
def test_two_tokens_of_one_id_are_named(kind):
    first, other = WORDS[-2:]
    model = json.loads(WORDPIECE)["model"]
    shared = {"model": {**model, "vocab": {**model["vocab"], other: model["vocab"][first]}}}
    parts = shared if kind == "vocabulary" else {"added_tokens": [added("[NEW]", model["vocab"][first])]}
    name = other if kind == "vocabulary" else "[NEW]"
    problem = refuse(document(WORDPIECE, **parts))
    assert f"the tokens {first!r} and {name!r} with one id, {model['vocab'][first]}" in problem


def test_early_releases_did_not_state_the_kind_of_model():
    for content in (WORDPIECE, WHOLE_WORDS, unigram(), byte_level()):
        model = json.loads(content)["model"]
        untyped = document(content, model={name: value for name, value in model.items() if name != "type"})
        assert read_document(untyped)["model"]["type"] == model["type"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (WORDPIECE[:-20], "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (WORDPIECE.replace(b'"max_input_chars_per_word": 100', b'"max_input_chars_per_word": NaN'), "the number NaN"),
        (b"1" * 10_000, "no JSON"),
    ],
)
def test_a_damaged_file_is_named(content, reason):
    assert reason in refuse(content, "E441")


def test_a_file_above_the_limit_is_not_parsed(monkeypatch):
    monkeypatch.setattr(tokenizer_file, "LARGEST_FILE", 10)
    assert "tokenizer.json has 0 MB" in refuse(WORDPIECE, "E441")


def nested(depth: int) -> dict:
    part = {"type": "Lowercase"}
    for _ in range(depth):
        part = {"type": "Sequence", "normalizers": [part]}
    return part


def replaced(pattern: dict, content: str = "") -> dict:
    return {"normalizer": {"type": "Replace", "pattern": pattern, "content": content}}


def model(**fields) -> dict:
    return {"model": {**json.loads(WORDPIECE)["model"], **fields}}


DOUBLED = replaced({"String": "a"}, "aa")["normalizer"]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"model": None}, "no model"),
        ({"model": {"type": "Python"}}, "a model Python"),
        ({"normalizer": {"type": "Python"}}, "a normalizer Python"),
        ({"normalizer": []}, "without a kind"),
        ({"normalizer": {"type": "Lowercase", "extra": 1}}, "unknown field extra"),
        ({"normalizer": {"type": "Prepend", "prepend": "x" * 2000}}, "prepend"),
        ({"normalizer": {"type": "Prepend", "prepend": 5}}, "prepend"),
        ({"normalizer": nested(20)}, "nested too deeply"),
        ({"normalizer": {"type": "Sequence", "normalizers": [DOUBLED] * 7}}, "lengthen a text 128 times"),
        ({"normalizer": {"type": "Sequence", "normalizers": [DOUBLED] * 40}}, "no list of at most 32"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 7}}, "lengthen a text 128 times"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "a table whose size is wrong"),
        (replaced({"Regex": "(a+)+$"}), "which may take for ever"),
        (replaced({"Regex": ""}), "the pattern"),
        (replaced({"String": ""}), "the pattern"),
        (replaced({"Other": "a"}), "the pattern"),
        ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "a pre-tokenizer FixedLength"),
        ({"post_processor": {"type": "Python"}}, "a post-processor Python"),
        ({"added_tokens": [{"id": 1}]}, "content"),
        ({"added_tokens": ["x"]}, "the added token x"),
        ({"added_tokens": [added("", 1)]}, "without text"),
        ({"added_tokens": [added("x", -1)]}, "the id -1"),
        ({"added_tokens": [added("x", 2**31)]}, "the id 2147483648"),
        (model(vocab={}), "no vocabulary"),
        ({"normalizer": {"type": "Precompiled"}}, "a table of replacements that is empty"),
    ],
)
def test_a_part_that_is_unknown_or_may_take_for_ever_is_named(parts, reason):
    assert reason in refuse(document(WORDPIECE, **parts))
