import pytest

from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.loading import load_tokenizer
from effxfer.runtime.text.pattern import SINGLE, read_pattern
from effxfer.runtime.text.sequences import Part, Sequencer
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, byte_level, document, ids


def sequencer(pattern: str = SINGLE, content: bytes = WORDPIECE, pad: int = 0) -> Sequencer:
    loaded = load_tokenizer(content)
    return Sequencer(loaded, read_pattern(pattern, loaded), pad)


def flat(parts: list[Part]) -> list[int]:
    return [token for part in parts for token in part.ids]


def test_tokens_are_those_of_fields_and_of_the_patterns_own_words():
    source = {"text": "the cat", "other": "a mat"}
    (parts,) = sequencer("a {text} it was {other}.").of_texts([source], spans=True)
    assert [(part.field, list(part.ids)) for part in parts] == [
        ("", ids("[CLS]")), ("", ids("a")), ("text", ids("the", "cat")), ("", ids("it", "was")),
        ("other", ids("a", "mat")), ("", ids(".")), ("", ids("[SEP]")),
    ]  # fmt: skip
    assert [list(part.spans) for part in parts if part.field] == [[(0, 3), (4, 7)], [(0, 1), (2, 5)]]


def test_empty_fields_and_a_pattern_that_begins_with_a_field():
    parts = next(sequencer("{text} was {other}").of_texts([{"text": "", "other": ""}], spans=True))
    assert [(part.field, list(part.ids)) for part in parts][1:4] == [("text", []), ("", ids("was")), ("other", [])]


FORGED = "a [SEP] [PAD] a"


def test_a_text_cannot_forge_special_tokens():
    sources = [{"text": FORGED}]
    assert not {2, 3, 4} & set(flat(next(sequencer("{text}").of_texts(sources, spans=False)))[1:-1])
    forged = flat(next(sequencer(content=WHOLE_WORDS, pad=1).of_texts(sources, spans=False)))
    assert forged == [3, 0, 0, 3]
    assert flat(next(sequencer(content=WHOLE_WORDS, pad=1).of_words([FORGED.split()]))) == [3, 0, 0, 3]


def test_a_forged_token_is_refused_if_there_is_no_unknown_one():
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "[PAD]": 1, "[SEP]": 2, "a": 3}, "unk_token": "?"}
    broken = sequencer(content=document(WHOLE_WORDS, model=model), pad=1)
    with pytest.raises(TextError, match="E350 a text holds a special token"):
        list(broken.of_texts([{"text": "a [SEP]"}], spans=False))


def test_the_first_token_of_each_word_has_its_number():
    (parts,) = sequencer().of_words([["cats", "playing", "\u200b", "a", ""]])
    assert list(parts[1].ids) == ids("cat", "##s", "play", "##ing", "[UNK]", "a", "[UNK]")
    assert list(parts[1].words) == [0, -1, 1, -1, 2, 3, 4]
    assert flat(next(sequencer().of_words([[]]))) == ids("[CLS]", "[SEP]")


@pytest.mark.parametrize("prefix", [False, True])
def test_words_of_a_byte_level_tokenizer_have_the_tokens_of_the_text(prefix):
    encoder = sequencer(content=byte_level(prefix=prefix), pad=1)
    text = next(encoder.of_texts([{"text": "the cat sat"}], spans=False))
    words = next(encoder.of_words([["the", "cat", "sat"]]))
    assert flat(text) == flat(words)
    assert [number for number in words[1].words if number >= 0] == [0, 1, 2]


def test_words_and_a_pattern_with_words_do_not_go_together():
    with pytest.raises(TextError, match="E218 a pattern cannot be filled with a list of words"):
        list(sequencer("{text} it was").of_words([["a"]]))


def test_a_row_has_a_token_even_for_an_empty_text():
    (parts,) = sequencer(content=WHOLE_WORDS, pad=1).of_texts([{"text": " "}], spans=True)
    assert flat(parts) == [0]
    with pytest.raises(TextError, match="E350 a text has no token"):
        list(sequencer(content=_without_unknown(), pad=1).of_texts([{"text": ""}], spans=False))
    with pytest.raises(TextError, match="E350 a word has no token"):
        list(sequencer(content=_without_unknown(), pad=1).of_words([[""]]))


def _without_unknown() -> bytes:
    return document(WHOLE_WORDS, model={"type": "WordLevel", "vocab": {"a": 3}, "unk_token": "?"})
