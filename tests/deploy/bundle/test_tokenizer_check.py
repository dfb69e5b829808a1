"""The page's ids are the runtime's, or there is no page."""

import shutil

import pytest

from effxfer.deploy.bundle import tokenizer_check
from effxfer.deploy.bundle.tokenizer_check import find_difference
from effxfer.deploy.bundle.web_library import TOKENIZERS_WEB, WebFiles, find_library
from effxfer.runtime.text.pattern import PAIR
from effxfer.runtime.text.tokens import Tokens
from tests.deploy import browser
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, byte_level, document, tokens

node = pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
library = pytest.mark.skipif(not browser.TOKENIZERS_FOLDER, reason=browser.NO_TOKENIZERS)
TEXTS = [("the cat sat",), ("it was great . " * 20,), ("Ça va, ΟΔΟΣ",), ("a [SEP] b [PAD]",)]
# A library that splits at blanks and knows no words but those of the vocabulary.
WORDS_ONLY = b"""
export class Tokenizer {
  constructor(raw) { this.vocabulary = raw.model.vocab; }
  encode(text) {
    const words = text.split(" ").filter((word) => word);
    return { ids: words.map((word) => this.vocabulary[word]) };
  }
}
"""


def library_of(content: bytes) -> WebFiles:
    return WebFiles(library=TOKENIZERS_WEB, version="0", files={TOKENIZERS_WEB.files[0]: content})


@pytest.fixture(scope="module")
def real():
    return find_library(TOKENIZERS_WEB, browser.TOKENIZERS_FOLDER)


@node
@library
@pytest.mark.parametrize(
    "input",
    [
        tokens(),
        tokens(pattern="[MASK] {text}"),
        tokens(pattern="{text} it was [MASK] ."),
        tokens(size=40, stride=3),
        tokens(pattern=PAIR),
        tokens(pattern=PAIR, stride=2),
        Tokens(tokenizer=byte_level(), size=20, pad=1),
        Tokens(tokenizer=byte_level(prefix=True), size=20, pad=1),
    ],
    ids=lambda input: input.pattern,
)
def test_ids_are_equal_for_wordpiece_and_byte_level_bpe(real, input):
    texts = (
        [(text, other) for (text,), (other,) in zip(TEXTS, TEXTS[::-1], strict=True)] if input.takes_pairs else TEXTS
    )
    assert find_difference(input, texts, real) is None


@node
@library
@pytest.mark.parametrize(
    ("input", "kind"),
    [
        (tokens(size=40, stride=8), "tags"),
        (tokens(size=12), "tags"),
        (Tokens(tokenizer=byte_level(), size=30, pad=1), "tags"),
        (tokens(size=40, pattern=PAIR, stride=8), "span"),
        (tokens(size=12, pattern=PAIR), "span"),
        (Tokens(tokenizer=byte_level(), size=60, pad=1, pattern=PAIR, stride=8), "span"),
    ],
)
def test_places_of_words_and_tokens_are_those_of_the_runtime(real, input, kind):
    texts = [(text, other) for (text,), (other,) in zip(TEXTS, TEXTS[::-1], strict=True)] if kind == "span" else TEXTS
    assert find_difference(input, texts, real, kind) is None


def test_a_token_may_be_shown_as_its_word_and_not_elsewhere():
    text = "a word  here"
    assert tokenizer_check._covers([None, [2, 6], [8, 12]], [[-1, -1], [2, 4], [6, 12]], text)
    assert not tokenizer_check._covers([None, [2, 3], [8, 12]], [[-1, -1], [2, 4], [6, 12]], text)
    assert not tokenizer_check._covers([[0, 1], [2, 6], [8, 12]], [[-1, -1], [2, 4], [6, 12]], text)


@node
@library
def test_a_tokenizer_that_the_library_gets_wrong_is_named_with_a_text(real):
    # Its `Whitespace` splits words at letters beyond ASCII.
    other = Tokens(tokenizer=document(pre_tokenizer={"type": "Whitespace"}, normalizer=None), size=16, pad=0)
    assert "texts otherwise, such as" in find_difference(other, TEXTS, real)


@node
def test_the_first_of_the_texts_that_differ_is_shown():
    input = Tokens(tokenizer=WHOLE_WORDS, size=16, pad=1)
    assert find_difference(input, [], library_of(WORDS_ONLY)) == (
        "it tokenizes 1 of 20 texts otherwise, such as 'a\\xa0b\\u2003c\\u3000d\\te\\nf\\r\\ng\\x85h\\u2028i'"
    )


@node
def test_a_library_that_fails_is_quoted():
    broken = library_of(b"export class Tokenizer { constructor() { throw new Error('no such model'); } }")
    assert find_difference(tokens(), TEXTS, broken) == "it fails: Error: no such model"


def test_without_node_nothing_is_checked(monkeypatch):
    monkeypatch.setattr(tokenizer_check.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError):
        find_difference(tokens(), TEXTS, library_of(b""))
