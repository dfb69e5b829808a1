import subprocess
import sys

import pytest

from effxfer.runtime.text import loading
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.loading import load_tokenizer
from tests.runtime.text.tiny_tokenizers import (
    WHOLE_WORDS,
    WORDPIECE,
    WORDS,
    added,
    byte_level,
    document,
    ids,
    unigram,
)


def encode(content: bytes, *texts: str) -> list[list[int]]:
    return [encoding.ids for encoding in load_tokenizer(content).encode(texts)]


def test_a_text_is_encoded_without_special_tokens_truncation_and_padding():
    stated = {"truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0}}
    stated["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0, "pad_token": "[PAD]"}
    texts = ["The cat sat on a mat.", ""]
    expected = [ids("the", "cat", "sat", "on", "a", "mat", "."), []]
    assert encode(WORDPIECE, *texts) == encode(document(WORDPIECE, **stated), *texts) == expected


def test_more_texts_than_a_chunk_come_back_in_their_order():
    texts = ["cat"] * loading.CHUNK + ["mat"]
    assert encode(WORDPIECE, *texts)[-2:] == [ids("cat"), ids("mat")]


def test_what_is_known_of_a_tokenizer():
    loaded = load_tokenizer(WORDPIECE)
    assert loaded.largest_id == len(WORDS) - 1
    assert loaded.unknown == WORDS.index("[UNK]")
    assert loaded.reserved == set(ids("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
    assert loaded.special["[MASK]"] == (4, False, False)
    assert not loaded.byte_level
    assert load_tokenizer(unigram()).unknown == 2
    assert load_tokenizer(byte_level()).byte_level
    assert not load_tokenizer(byte_level(prefix=True)).byte_level


def test_the_largest_id_counts_added_tokens_and_the_template():
    assert load_tokenizer(document(WORDPIECE, added_tokens=[added("[NEW]", 99)])).largest_id == 99
    processor = {"type": "BertProcessing", "sep": ["[SEP]", 77], "cls": ["[CLS]", 2]}
    assert load_tokenizer(document(WORDPIECE, post_processor=processor)).largest_id == 77


def refuse(content: bytes, code: str) -> str:
    with pytest.raises(TextError) as caught:
        load_tokenizer(content)
    assert caught.value.code == code
    assert caught.value.exit_code == 4
    return caught.value.problem


def test_what_the_library_refuses_is_named():
    model = {"type": "BPE", "vocab": {"a": 100}, "merges": ["a b"]}
    assert "out of vocabulary" in refuse(document(WORDPIECE, model=model), "E441")
    for kind in ("BPE", "Unigram", "WordLevel", "WordPiece"):
        assert f"a model {kind} without a vocabulary" in refuse(
            document(WORDPIECE, model={"type": kind, **({"merges": []} if kind == "BPE" else {})}), "E445"
        )
    processor = {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}
    assert "of the sequences none" in refuse(document(WORDPIECE, post_processor=processor), "E445")


def test_a_panic_of_the_library_is_an_error_with_a_name(monkeypatch):
    class PanicException(BaseException):
        pass

    class Library:
        def encode_batch(self, *args, **options):
            raise PanicException("index out of bounds")

    loaded = load_tokenizer.__wrapped__(WORDPIECE)
    object.__setattr__(loaded, "library", Library())
    with pytest.raises(TextError, match="E350 the tokenizer cannot encode a text: index out of bounds"):
        list(loaded.encode(["a"]))


def test_an_interruption_comes_through():
    class Library:
        def encode_batch(self, *args, **options):
            raise KeyboardInterrupt

    loaded = load_tokenizer.__wrapped__(WORDPIECE)
    object.__setattr__(loaded, "library", Library())
    with pytest.raises(KeyboardInterrupt):
        list(loaded.encode(["a"]))


def test_half_of_a_character_is_named():
    with pytest.raises(TextError, match="E350 a text holds half of a character") as caught:
        encode(WORDPIECE, "a", "b \ud800")
    assert caught.value.exit_code == 3


def test_a_word_without_a_token_is_named_if_there_is_no_unknown_one():
    model = {"type": "WordLevel", "vocab": {"a": 3}, "unk_token": "[UNK]"}
    with pytest.raises(TextError, match="E350 the tokenizer cannot encode a text"):
        encode(document(WHOLE_WORDS, model=model, added_tokens=[]), "a b")


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    load_tokenizer.cache_clear()
    with pytest.raises(TextError, match="E440 texts need the package tokenizers") as caught:
        load_tokenizer(WORDPIECE)
    assert caught.value.hint == "pip install --no-deps tokenizers"


def test_the_package_is_imported_when_it_is_needed():
    code = "import sys, effxfer.runtime.text.pretrained; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
