import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from effxfer.runtime.rows import Ragged
from effxfer.runtime.text import tokens as module
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.pattern import PAIR
from effxfer.runtime.text.tokens import Tokens
from tests.runtime.text.tiny_tokenizers import (
    WHOLE_WORDS,
    WORDPIECE,
    WORDS,
    added,
    byte_level,
    document,
    ids,
    tokens,
    unigram,
)

TEXT = st.text("abcdef the cats.[]\u200b\u00e9", max_size=40)
RAGGED = Ragged.of([np.array([2, 5, 3], np.int32), np.array([2, 3], np.int32)])


def library(**truncation) -> Tokenizer:
    tokenizer = Tokenizer.from_str(WORDPIECE.decode())
    tokenizer.encode_special_tokens = True
    tokenizer.enable_truncation(**truncation)
    return tokenizer


def lists(rows: Ragged) -> list[list[int]]:
    return [row.tolist() for row in rows]


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(4, 12))
def test_rows_are_those_of_the_library(texts, size):
    encodings = library(max_length=size).encode_batch(texts)
    assert lists(tokens(size).encode(texts).rows) == [encoding.ids for encoding in encodings]


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.integers(6, 12))
def test_pairs_lose_tokens_as_in_the_library(pairs, size):
    encodings = library(max_length=size, strategy="longest_first").encode_batch(pairs)
    expected = [encoding.ids for encoding in encodings]
    assert lists(tokens(size, pattern=PAIR).encode(pairs).rows) == expected
    assert lists(tokens(size, pattern="{text} [SEP] {other}").encode(pairs).rows) == expected


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(5, 9), st.integers(1, 2))
def test_windows_and_their_places_are_those_of_the_library(texts, size, stride):
    encoded = tokens(size, stride=stride).encode(texts, spans=True)
    encodings = [[e, *e.overflowing] for e in library(max_length=size, stride=stride).encode_batch(texts)]
    assert lists(encoded.rows) == [window.ids for windows in encodings for window in windows]
    assert encoded.groups.tolist() == [i for i, windows in enumerate(encodings) for _ in windows]
    spans = [
        (-1, -1) if m else o
        for ws in encodings
        for w in ws
        for o, m in zip(w.offsets, w.special_tokens_mask, strict=False)
    ]
    assert list(map(tuple, encoded.spans.tolist())) == spans


@given(st.text(max_size=30))
def test_no_text_yields_padding_or_a_special_token(text):
    row = tokens(64).decode(text)
    assert row.dtype == np.int32
    assert row[[0, -1]].tolist() == ids("[CLS]", "[SEP]")
    assert not set(row[1:-1].tolist()) & set(ids("[PAD]", "[CLS]", "[SEP]", "[MASK]"))


def test_the_words_of_a_pattern_survive_a_long_text():
    row = tokens(9, pattern="{text} it was [MASK].").decode("the cat " * 9)
    assert row.tolist() == ids("[CLS]", "the", "cat", "the", "it", "was", "[MASK]", ".", "[SEP]")


def test_texts_come_from_bytes_and_files_too(tmp_path):
    file = tmp_path / "text"
    file.write_bytes(b"\xef\xbb\xbfa cat")
    assert lists(tokens().encode(["a cat", b"a cat", file]).rows) == [ids("[CLS]", "a", "cat", "[SEP]")] * 3


def refuse(source, code: str, **options) -> str:
    with pytest.raises(TextError) as caught:
        tokens(**options).decode(source)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value.problem


def test_what_is_no_text_is_named(tmp_path, monkeypatch):
    assert "not UTF-8 text: invalid start byte at byte 1" in refuse(b"a\xff", "E350")
    assert "cannot be read" in refuse(tmp_path / "absent", "E350")
    assert "cannot be read: it is a folder" in refuse(tmp_path, "E350")
    assert "a int among texts" in refuse(5, "E350")
    assert "a text among lists of words" in refuse(["a", 5], "E350")
    monkeypatch.setattr(module, "LONGEST_TEXT", 3)
    (tmp_path / "long").write_text("abcd")
    assert "is above the limit" in refuse(tmp_path / "long", "E352")
    assert refuse("abcd", "E352") == "a text of 4 characters, 3 at most"
    assert refuse(["ab", "cd"], "E352") == "a text of 4 characters, 3 at most"


def test_texts_and_lists_of_words_are_not_mixed():
    with pytest.raises(TextError, match="E350 a text among lists of words"):
        tokens().encode([["a"], "a"])
    with pytest.raises(TextError, match="E350 a list among texts"):
        tokens().encode(["a", ["a"]])


@pytest.mark.parametrize("part", [["a"], 5, None, b"a"])
def test_a_part_of_a_pair_that_is_no_text_is_named(part):
    with pytest.raises(TextError, match=f"E350 {type(part).__name__} among the texts of a pair"):
        tokens(size=20, pattern="{text}{sep}{other}").encode([("a", part)])


def test_a_source_has_the_fields_of_the_pattern():
    assert "takes one text, not 2" in refuse(("a", "b"), "E218")
    assert "takes two texts (the second is `--pair`), not 1" in refuse("a", "E218", pattern=PAIR)


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"size": 4, "stride": 4}, {"stride": -1}, {"pad": -1}, {"size": 8, "stride": 4, "pattern": PAIR}],
)
def test_settings_without_room_for_a_text_are_refused(options):
    with pytest.raises(TextError, match="E218"):
        Tokens(**{"tokenizer": WORDPIECE, "size": 9, "pad": 0, **options})


def test_a_size_that_the_special_tokens_fill_is_refused():
    assert "have no room for a text" in refuse("a", "E218", size=2)
    assert "have no room for a text" in refuse(("a", "b"), "E218", size=4, pattern=PAIR)
    assert tokens(size=3).decode("a b").tolist() == ids("[CLS]", "a", "[SEP]")


def test_a_batch_is_padded_to_its_longest_row():
    fed = tokens().feed(RAGGED)
    assert fed.dtype == np.int64
    assert fed.tolist() == [[2, 5, 3], [2, 3, 0]]
    assert tokens().feed(RAGGED[1:]).tolist() == [[2, 3]]
    assert tokens().feed(np.array([[2, 3]], np.int32)).dtype == np.int64
    assert tokens().real(fed).tolist() == [[True, True, True], [True, True, False]]


def test_padding_does_not_depend_on_the_other_rows():
    fed = tokens().feed(RAGGED)
    for row, alone in zip(fed, RAGGED, strict=True):
        assert row[tokens().real(row)].tolist() == alone.tolist()


def test_an_example_has_no_padding_and_is_a_function_of_its_seed():
    plain = tokens().example()
    assert plain.shape == (2, 16)
    assert plain[:, 0].tolist() == ids("[CLS]") * 2
    assert len({*plain[0, 1:-1].tolist()}) == 1
    drawn = tokens().example(3, seed=1, length=12)
    assert drawn.shape == (3, 12)
    assert tokens().real(drawn).all()
    assert not np.isin(drawn[:, 1:-1], ids("[PAD]", "[CLS]", "[SEP]", "[MASK]")).any()
    np.testing.assert_array_equal(drawn, tokens().example(3, seed=1, length=12))
    assert (drawn != tokens().example(3, seed=2, length=12)).any()
    assert tokens(size=5).example(length=99).shape == (2, 5)
    assert tokens(size=1).example().shape == (2, 1)


def test_a_tokenizer_of_special_tokens_has_no_example():
    model = {"type": "WordLevel", "vocab": {"[PAD]": 1, "[SEP]": 2}, "unk_token": "?"}
    content = document(WHOLE_WORDS, model=model, added_tokens=[added("[SEP]", 2)])
    with pytest.raises(TextError, match="E445 the tokenizer has only special tokens"):
        Tokens(tokenizer=content, size=8, pad=1).example()


DOCUMENTS = [WORDPIECE, WHOLE_WORDS, unigram(), byte_level()]
VALUES = [
    None,
    True,
    -1,
    0,
    2**40,
    1.5,
    "",
    "x" * 50,
    [],
    {},
    [[]],
    "\0",
    "\ud800",
    {"Regex": r"\s+"},
    {"a": 0},
    [["a", 0]],
]


def places(part, path=()):
    """The way to every value of a document."""
    inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


PLACES = {content: list(places(json.loads(content))) for content in DOCUMENTS}


@settings(max_examples=300)
@given(st.sampled_from(DOCUMENTS), st.integers(0, 10**6), st.sampled_from(VALUES), st.booleans())
def test_a_tokenizer_with_another_value_somewhere_works_or_is_refused_by_name(content, number, value, remove):
    changed = json.loads(content)
    *way, last = PLACES[content][number % len(PLACES[content])]
    part = changed
    for key in way:
        part = part[key]
    if remove:
        del part[last]
    else:
        part[last] = value
    with suppress(TextError):
        broken = Tokens(tokenizer=json.dumps(changed).encode(), size=8, pad=1)
        assert len(broken.encode(["the cat [SEP] b c", ""]).rows) == 2
        assert broken.example().shape == (2, 8)


def test_plain_values_and_the_file_give_the_same_input():
    for options in ({}, {"pattern": PAIR, "stride": 2}):
        first = tokens(**options)
        second = Tokens.from_json(json.loads(json.dumps(first.to_json())), first.files()["tokenizer.json"])
        assert first == second
    assert tokens().to_json() == {
        "kind": "text", "size": 16, "pad": 0, "pattern": "{text}", "tokenizer": tokens().digest,
    }  # fmt: skip


def test_the_tokenizer_of_another_model_is_refused():
    with pytest.raises(TextError, match=r"E446 tokenizer\.json has the digest") as caught:
        Tokens.from_json(tokens().to_json(), WHOLE_WORDS)
    assert caught.value.exit_code == 4


def test_another_size_keeps_the_rest():
    other = tokens(stride=1).with_size(8)
    assert (other.size, other.stride, other.tokenizer) == (8, 1, WORDPIECE)


def test_the_key_changes_with_everything_that_rows_depend_on():
    keys = [
        tokens().decode_key(),
        tokens(8).decode_key(),
        tokens(stride=1).decode_key(),
        tokens(pattern=PAIR).decode_key(),
    ]
    keys.append(Tokens(tokenizer=WHOLE_WORDS, size=16, pad=0).decode_key())
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == 5


def test_a_tokenizer_for_another_vocabulary_is_refused():
    tokens().require_fit(len(WORDS))
    with pytest.raises(TextError, match=f"E443 the tokenizer has ids up to {len(WORDS) - 1}"):
        tokens().require_fit(len(WORDS) - 1)
    with pytest.raises(TextError, match="E443 the tokenizer has ids up to 500"):
        Tokens(tokenizer=WORDPIECE, size=8, pad=500).require_fit(500)


def test_what_an_input_states_of_itself():
    assert (Tokens.kind, Tokens.name, Tokens.unit) == ("text", "ids", "texts")
    assert Tokens.free == {0: "batch", 1: "length"}
    assert "[CLS]" not in repr(tokens())


@pytest.mark.parametrize("content", [WORDPIECE, byte_level()])
def test_truncation_and_padding_of_the_file_do_nothing(content):
    stated = document(
        content,
        truncation={"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        padding={"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    )
    first, second = (Tokens(tokenizer=raw, size=20, pad=1).decode("the cat sat on a mat") for raw in (content, stated))
    assert first.tolist() == second.tolist()
    assert len(first) > 3
