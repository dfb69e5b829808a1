import json

import pytest

from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.layouts.clip_bpe import build_clip_bpe
from effxfer.runtime.text.loading import load_tokenizer
from effxfer.runtime.text.pretrained import read_tokens
from tests.net.dual_encoder import towers

MERGES = ("#version: 0.2\n" + "\n".join(towers.MERGES)).encode()


def test_words_are_merged_to_their_ends():
    loaded = load_tokenizer(build_clip_bpe(json.dumps(towers.VOCABULARY).encode(), MERGES))
    (encoding,) = loaded.encode(["A Cat   red"])
    assert encoding.tokens == ["a</w>", "cat</w>", "red</w>"]
    assert loaded.template.single == ((59,), (60,))


def test_another_byte_pair_encoding_is_none_of_clip():
    assert build_clip_bpe(b'{"a": 0, "<|endoftext|>": 1, "<|startoftext|>": 2}', MERGES) is None
    with pytest.raises(TextError, match="cannot be read"):
        build_clip_bpe(b"{", MERGES)


def test_padding_may_be_an_id_of_its_own(tmp_path):
    towers.write_tokenizer(tmp_path)
    assert read_tokens(tmp_path, 9, pad=61).pad == 61
    with pytest.raises(TextError) as error:
        read_tokens(tmp_path, 9)
    assert error.value.code == "E442", "CLIP pads with the end of a text"
