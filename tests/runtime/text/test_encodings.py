import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.text.encodings import IGNORED
from tests.runtime.text.tiny_tokenizers import tokens

WORD = st.sampled_from(["cat", "cats", "playing", "mat", "\u200b", "unknown"])


def test_labels_stand_at_the_first_token_of_each_word():
    encoded = tokens().encode([["cats", "sat"], ["playing"]])
    labels = encoded.word_labels([[7, 8], [9]])
    assert [row.tolist() for row in labels] == [[-100, 7, -100, 8, -100], [-100, 9, -100, -100]]
    assert labels.ends.tolist() == encoded.rows.ends.tolist()
    assert labels.values.dtype == np.int64


@given(st.lists(st.lists(WORD, max_size=12), min_size=1, max_size=4), st.integers(0, 2), st.integers(5, 9))
def test_each_word_of_a_long_text_has_its_label_in_one_window(texts, stride, size):
    encoded = tokens(size=size, stride=stride).encode(texts)
    labels = encoded.word_labels([[100 * i + j for j in range(len(words))] for i, words in enumerate(texts)])
    for i, words in enumerate(texts):
        rows = labels[encoded.groups == i]
        seen = [label - 100 * i for label in rows.values.tolist() if label != IGNORED]
        assert seen == list(range(len(seen)))
        assert seen == list(range(len(words))) or not stride


def test_a_word_in_two_windows_counts_where_it_has_more_context():
    encoded = tokens(size=6, stride=2).encode([["a", "b", "c", "d", "e", "f"]])
    windows = [encoded.words[s:e].tolist() for s, e in zip(encoded.rows.starts, encoded.rows.ends, strict=True)]
    assert windows == [[-1, 0, 1, 2, -1, -1], [-1, -1, 3, 4, 5, -1]]


def test_texts_that_lost_tokens_are_counted():
    long, short = ["a"] * 9, ["a"] * 3
    assert tokens(size=6).encode([long, short, long]).cut == 2
    assert tokens(size=6, stride=1).encode([long, short, long]).cut == 0
    pair = tokens(size=8, pattern="{text}{sep}{other}", stride=1)
    assert pair.encode([("a " * 9, "b"), ("a", "b " * 9)]).cut == 1
    assert pair.encode([("a " * 9, "b " * 9)]).cut == 1


@pytest.mark.parametrize(
    ("answer", "expected"), [((4, 8), (2, 3)), ((0, 3), (1, 1)), ((4, 7), (2, 2)), ((0, 12), (1, 4))]
)
def test_an_answer_is_the_tokens_that_hold_its_characters(answer, expected):
    encoded = tokens().encode(["the cats sat"], spans=True)
    assert encoded.answer_places([answer]).tolist() == [list(expected)]


def test_no_answer_and_one_that_a_row_does_not_hold_are_minus_one():
    encoded = tokens(size=5, stride=1).encode(["the cat sat on a mat", "a"], spans=True)
    assert encoded.groups.tolist() == [0, 0, 0, 1]
    places = encoded.answer_places([(4, 11), None])
    assert places.tolist() == [[2, 3], [-1, -1], [-1, -1], [-1, -1]]
    assert encoded.answer_places([(8, 14), None]).tolist() == [[-1, -1], [1, 2], [-1, -1], [-1, -1]]
    assert encoded.answer_places([(3, 4), (5, 5)]).tolist() == [[-1, -1]] * 4


def test_accents_and_blanks_do_not_move_an_answer():
    text = "  the   c\u0301at s\u00e1t"
    encoded = tokens().encode([text], spans=True)
    start = text.index("c\u0301at")
    ((first, last),) = encoded.answer_places([(start, start + 4)]).tolist()
    place = encoded.spans[first]
    assert first == last
    assert text[place[0] : place[1]] == "c\u0301at"


def test_only_the_last_field_has_places():
    encoded = tokens(pattern="{text}{sep}{other}").encode([("the cat", "a mat")], spans=True)
    assert encoded.spans.tolist() == [[-1, -1]] * 4 + [[0, 1], [2, 5], [-1, -1]]


def test_what_was_not_asked_for_is_missing():
    encoded = tokens().encode(["a"])
    with pytest.raises(ValueError, match="need lists of words"):
        encoded.word_labels([[1]])
    with pytest.raises(ValueError, match="need spans"):
        encoded.answer_places([None])


def test_fewer_labels_than_words_are_refused():
    with pytest.raises(ValueError, match="fewer labels than words"):
        tokens().encode([["a", "b"], ["c"]]).word_labels([[1], [2]])


def test_no_texts_are_no_rows():
    encoded = tokens().encode([], spans=True)
    assert (len(encoded.rows), encoded.spans.shape, encoded.cut) == (0, (0, 2), 0)
    assert len(tokens().encode([]).word_labels([])) == 0  # words or not
