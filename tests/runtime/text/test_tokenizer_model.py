import json

import pytest

from effxfer.runtime.text.tokenizer_model import check_model
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, byte_level, unigram


def wordpiece(**fields) -> dict:
    return {**json.loads(WORDPIECE)["model"], **fields}


def bpe(**fields) -> dict:
    return {"type": "BPE", "vocab": {"a": 0, "##b": 1, "ab": 2}, "merges": ["a ##b"], **fields}


def unigrams(vocab: object) -> dict:
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab}


@pytest.mark.parametrize("content", [WORDPIECE, WHOLE_WORDS, unigram(), byte_level()])
def test_known_models_are_accepted_as_they_are(content):
    model = json.loads(content)["model"]
    assert check_model(model) == {name: value for name, value in model.items() if name != "dropout"}


def test_merges_with_the_prefix_of_parts_within_a_word_are_accepted():
    assert check_model(bpe(continuing_subword_prefix="##"))["merges"] == ["a ##b"]
    assert check_model(bpe(merges=[["a", "##b"]], continuing_subword_prefix="##", dropout=None))["type"] == "BPE"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (wordpiece(type={"a": 1}), "a model"),
        (wordpiece(max_input_chars_per_word=10**9), "max_input_chars_per_word 1000000000, not 1 to 200"),
        (wordpiece(max_input_chars_per_word=True), "max_input_chars_per_word True"),
        (wordpiece(vocab={}), "no vocabulary"),
        (wordpiece(vocab={"a": 1.5}), "the id 1.5"),
        (wordpiece(vocab={"a": True}), "the id True"),
        (wordpiece(vocab={"a": 2**31}), "the id 2147483648"),
        (wordpiece(vocab={"a" * 1001: 1}), "no text of at most 1000"),
        (wordpiece(unk_token=5), "unk_token 5"),
        (wordpiece(unk_token="x" * 1001), "no text of at most 1000"),
        (wordpiece(merges=[]), "unknown field merges"),
        (bpe(dropout=0.1), "ids random"),
        (bpe(merges=["a b c"]), "the merge a b c"),
        (bpe(merges=[["a", 1]]), "the merge"),
        (bpe(merges=None), "merges that are no list"),
        (bpe(continuing_subword_prefix="#####"), "merges without the prefix #####"),
        (bpe(merges=["a \u00e9b"], continuing_subword_prefix="\u00e9"), "merges without the prefix"),
        (unigrams([]), "an empty vocabulary"),
        (unigrams([["a"]]), "the piece"),
        (unigrams([["a", "b"]]), "the piece"),
        (unigrams([[5, 0.0]]), "no text of at most 1000"),
        (unigrams([["a", 10**400]]), "the piece a with a score"),
        (unigrams([["a", float("nan")]]), "the piece a with a score"),
        ({**unigrams([["a", 0.0]]), "unk_id": -1}, "the id -1 of unk_id"),
    ],
)
def test_what_decides_about_time_memory_and_chance_is_refused(model, reason):
    with pytest.raises(ValueError, match=reason):
        check_model(model)
