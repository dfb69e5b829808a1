import pytest

from effxfer.data.texts.examples import Answer, Example, label_name, read_label
from effxfer.data.texts.text_labels import (
    answer_labels,
    class_labels,
    count_lost_answers,
    count_lost_tags,
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
    assert labels.tags.tolist() == [[-100, 1, 0, -100, -100]]
    with pytest.raises(DataError, match="f:1: the tag 'O' is unknown") as caught:
        tag_labels(encode(examples), examples, ("B-X",))
    assert caught.value.code == "E334"


def test_the_tags_of_windows_follow_one_another():
    words = ["a", "b", "c", "d", "e", "f"]
    examples = [Example(words, tuple("uvwxyz"), "f:1")]
    labels = tag_labels(encode(examples, size=6, stride=2), examples, tuple("uvwxyz"))
    assert len(labels) == 2
    assert labels.groups.tolist() == [0, 0]
    assert [label for label in labels.tags.ravel().tolist() if label >= 0] == [0, 1, 2, 3, 4, 5]


def test_words_behind_a_cut_are_counted():
    examples = [Example(["a", "b", "c", "d", "e"], ("u",) * 5, "f:1"), Example(["a"], ("u",), "f:2")]
    assert count_lost_tags(tag_labels(encode(examples, size=5), examples, ("u",)), examples) == 2
    assert count_lost_tags(tag_labels(encode(examples, size=5, stride=1), examples, ("u",)), examples) == 0


def test_the_first_answer_is_trained_on_and_all_are_right():
    examples = [
        Example(("a", "the cat sat"), (Answer(4, "cat"), Answer(0, "the")), "q1"),
        Example(("a", "the cat"), (), "q2"),
    ]
    labels = answer_labels(encode(examples, spans=True, pattern=PAIR), examples, 0)
    assert labels.places.tolist() == [[4, 4], [-1, -1]]
    assert labels.context.tolist() == [[3, 6], [3, 5]]
    assert labels.answers.tolist() == [[[1, 1], [0, 0]], [[-1, -1], [-1, -1]]]
    assert count_lost_answers(labels, examples) == 0


def test_an_answer_has_the_same_tokens_in_every_window():
    examples = [Example(("a", "b c d e f the cat sat"), (Answer(10, "the cat"),), "q1")]
    labels = answer_labels(encode(examples, spans=True, size=8, stride=2, pattern=PAIR), examples, 2)
    assert labels.groups.tolist() == [0, 0, 0]
    assert labels.offset.tolist() == [0, 2, 4]
    assert labels.places.tolist() == [[-1, -1], [-1, -1], [4, 5]]
    assert labels.answers.tolist() == [[[5, 6]]] * 3
    for row in range(3):
        first, last = labels.places[row]
        assert first < 0 or [first - 3 + labels.offset[row], last - 3 + labels.offset[row]] == [5, 6]


def test_answers_that_no_row_holds_are_counted():
    examples = [
        Example(("a", "b c d e f the cat"), (Answer(10, "the cat"),), "q1"),
        Example(("a", "b"), (Answer(0, "b"),), "q2"),
        Example(("a", "b"), (), "q3"),
    ]
    cut = answer_labels(encode(examples, spans=True, size=8, pattern=PAIR), examples, 0)
    assert count_lost_answers(cut, examples) == 1
    assert cut.answers[0].tolist() == [[4, 4]]  # behind the four tokens that are left: never right
    windows = answer_labels(encode(examples, spans=True, size=8, stride=2, pattern=PAIR), examples, 2)
    assert count_lost_answers(windows, examples) == 0


def test_an_answer_whose_end_is_cut_ends_with_the_last_token():
    examples = [Example(("a", "b c d the cat sat"), (Answer(6, "the cat sat"),), "q1")]
    labels = answer_labels(encode(examples, spans=True, size=8, pattern=PAIR), examples, 0)
    assert labels.answers.tolist() == [[[3, 3]]]
    assert labels.places.tolist() == [[-1, -1]]


def test_labels_of_words_and_answers_are_texts_and_back():
    for kind, label in (("tags", ("O", "B-X Y")), ("span", (Answer(3, 'a "b"'),)), ("span", ())):
        assert read_label(kind, label_name(Example("", label, ""))) == label
