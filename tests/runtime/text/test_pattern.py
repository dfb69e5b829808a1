import pytest

from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.loading import load_tokenizer
from effxfer.runtime.text.pattern import PAIR, SINGLE, Chunk, field_names, read_pattern
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, added, byte_level, document, ids, unigram

BERT = load_tokenizer(WORDPIECE)
CLS, SEP, MASK = ids("[CLS]"), ids("[SEP]"), ids("[MASK]")


def test_a_single_text_is_between_the_special_tokens():
    pattern = read_pattern(SINGLE, BERT)
    assert pattern.special == (tuple(CLS), tuple(SEP))
    assert pattern.is_single
    assert pattern.fields == ("text",)


def test_a_pair_has_what_the_tokenizer_puts_between_two_texts():
    assert read_pattern(PAIR, BERT).special == (tuple(CLS), tuple(SEP), tuple(SEP))
    roberta = read_pattern(PAIR, load_tokenizer(byte_level()))
    assert roberta.special == ((0,), (2, 2), (2,))
    assert roberta.fields == ("text", "other")


def test_special_tokens_are_recognized_as_the_tokenizer_writes_them():
    pattern = read_pattern("{text} It was [MASK][MASK].", BERT)
    assert pattern.special == (tuple(CLS), tuple(MASK * 2), tuple(SEP))
    assert [chunk.fill({"text": "x"}) for chunk in pattern.chunks] == ["x It was ", "."]
    assert not pattern.is_single
    assert read_pattern("{text} [mask]", BERT).special == (tuple(CLS), tuple(SEP))
    assert read_pattern("[CLS] {text}", BERT).special == (tuple(CLS * 2), tuple(SEP))


def test_blanks_belong_to_special_tokens_that_take_them():
    content = document(WORDPIECE, added_tokens=[added("[MASK]", MASK[0], lstrip=True, rstrip=True)])
    chunks = read_pattern("{text} [MASK] {other}", load_tokenizer(content)).chunks
    assert chunks == (Chunk(("text",), ("text",)), Chunk(("other",), ("other",)))


def test_braces_of_a_users_text_are_no_fields():
    (chunk,) = read_pattern("{text} is {other}", BERT).chunks
    assert chunk.fill({"text": "{other}", "other": "{sep}"}) == "{other} is {sep}"


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "text",
        "{text",
        "{body}",
        "{text}{text}",
        "{other}",
        "{other}{text}",
        "{text}{sep}{other}{sep}",
        "{text}" + "x" * 1000,
    ],
)
def test_a_pattern_without_its_fields_in_order_is_refused(pattern):
    with pytest.raises(TextError, match="E218 the pattern") as caught:
        field_names(pattern)
    assert caught.value.exit_code == 2
    assert "{text}{sep}{other}" in caught.value.hint


@pytest.mark.parametrize("content", [unigram(), WHOLE_WORDS])
def test_a_tokenizer_without_pairs_takes_no_separator(content):
    with pytest.raises(TextError, match="E218 the tokenizer puts nothing between two texts"):
        read_pattern(PAIR, load_tokenizer(content))
