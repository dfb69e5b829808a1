import pytest

from effxfer.data.texts.examples import Answer, Example
from effxfer.data.texts.text_labels import (
    answer_labels,
    class_labels,
    count_lost_answers,
    label_names,
    tag_labels,
)
from effxfer.errors import DataError
from effxfer.runtime.text.pattern import PAIR
from tests.runtime.text.tiny_tokenizers import tokens


def encode(examples, spans=False, **options):
    return tokens(**options).encode([example.source for example in examples], spans=spans)


def test_names_are_those_of_all_labels_sorted():
    assert label_names([Example("a", "y", ""), Example("b", "x", ""), Example("c", "y", "")]) == ("x", "y")
    assert label_names([Example(["a", "b"], ("O", "B-X"), ""), Example(["c"], ("I-X",), "")]) == ("B-X", "I-X", "O")
    assert label_names([Example(("q", "c"), (Answer(0, "c"),), "")]) == ()


def test_each_row_has_the_class_of_its_text():
    examples = [Example("a b c d e", "y", "f:1"), Example("a", "x", "f:2"), Example("b", "", "f:3")]
    assert class_labels(encode(examples), examples, ("x", "y")).tolist() == [1, 0, -1]
    assert class_labels(encode(examples, size=5, stride=1), examples, ("x", "y")).tolist() == [1, 1, 0, -1]
    with pytest.raises(DataError, match="f:1: the label 'y' is no class") as caught:
        class_labels(encode(examples), examples, ("x",))
    assert caught.value.code == "E334"


def test_each_word_has_its_tag():
    examples = [Example(["the", "cats"], ("O", "B-X"), "f:1")]
    labels = tag_labels(encode(examples), examples, ("B-X", "O"))
    assert labels.values.tolist() == [-100, 1, 0, -100, -100]
    with pytest.raises(DataError, match="f:1: the tag 'O' is unknown") as caught:
        tag_labels(encode(examples), examples, ("B-X",))
    assert caught.value.code == "E334"


def test_the_tags_of_windows_follow_one_another():
    words = ["a", "b", "c", "d", "e", "f"]
    examples = [Example(words, tuple("uvwxyz"), "f:1")]
    labels = tag_labels(encode(examples, size=6, stride=2), examples, tuple("uvwxyz"))
    assert len(labels) == 2
    assert [label for label in labels.values.tolist() if label >= 0] == [0, 1, 2, 3, 4, 5]


def test_the_first_answer_is_the_label_and_none_is_minus_one():
    examples = [
        Example(("a", "the cat sat"), (Answer(4, "cat"), Answer(0, "the")), "q1"),
        Example(("a", "the cat"), (), "q2"),
    ]
    encoded = encode(examples, spans=True, pattern=PAIR)
    labels = answer_labels(encoded, examples)
    assert labels.tolist() == [[4, 4], [-1, -1]]
    assert count_lost_answers(labels, encoded, examples) == 0


def test_answers_that_no_row_holds_are_counted():
    examples = [
        Example(("a", "b c d e f the cat"), (Answer(10, "the cat"),), "q1"),
        Example(("a", "b"), (Answer(0, "b"),), "q2"),
        Example(("a", "b"), (), "q3"),
    ]
    cut = encode(examples, spans=True, size=8, pattern=PAIR)
    assert count_lost_answers(answer_labels(cut, examples), cut, examples) == 1
    windows = encode(examples, spans=True, size=8, stride=2, pattern=PAIR)
    assert count_lost_answers(answer_labels(windows, examples), windows, examples) == 0
