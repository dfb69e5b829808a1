import pytest

pytest.importorskip("tokenizers")

from effxfer.net.text.wordpiece import SPECIAL, train_wordpiece
from effxfer.runtime.text.tokens import Tokens
from tests.data.text_files import texts

TEXTS = [text for text, _ in texts(60)] + ["playing played plays player"] * 3


def test_a_tokenizer_reads_its_texts_without_unknown_tokens_and_has_no_more_than_asked():
    own = Tokens(tokenizer=train_wordpiece(TEXTS, 60), size=64, pad=0)
    assert own.loaded.largest_id < 60
    assert [own.loaded.tokens[name] for name in SPECIAL] == list(range(5))
    rows = own.encode(TEXTS).rows
    assert own.loaded.unknown not in rows.values


def test_equal_texts_give_equal_tokenizers_and_their_order_counts_for_nothing():
    assert train_wordpiece(TEXTS, 60) == train_wordpiece(TEXTS, 60)
    assert train_wordpiece(TEXTS, 60) == train_wordpiece(TEXTS[::-1], 60)


def test_frequent_words_are_tokens_and_rare_ones_are_parts():
    own = Tokens(tokenizer=train_wordpiece(["the cat"] * 50 + ["the hat", "the hats"], 40), size=16, pad=0)
    assert {"the", "cat"} <= own.loaded.tokens.keys()
    assert "hats" not in own.loaded.tokens


@pytest.mark.parametrize("lowercase", [True, False])
def test_capitals_count_where_asked(lowercase):
    own = Tokens(tokenizer=train_wordpiece(["Cat cat"] * 9, 40, lowercase=lowercase), size=16, pad=0)
    first, second = own.encode(["Cat", "cat"]).rows
    assert (first.tolist() == second.tolist()) == lowercase
