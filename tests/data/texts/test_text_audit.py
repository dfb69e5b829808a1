import numpy as np
import pytest

from effxfer.data.texts.examples import Answer, Example
from effxfer.data.texts.text_audit import audit_texts, find_cut, length_rows, token_lengths
from tests.runtime.text.tiny_tokenizers import tokens


def texts(*rows: tuple, split: str = "train") -> list[Example]:
    return [Example(source, label, f"{split}:{i}", split) for i, (source, label) in enumerate(rows, 1)]


def codes(examples, **options) -> list[tuple[str, str, str]]:
    return [(f.code, f.severity, f.path) for f in audit_texts(examples, **options)]


def test_clean_texts_have_no_findings():
    assert audit_texts(texts(("a film", "good"), ("a book", "bad"))) == []
    assert audit_texts([]) == []


def test_a_text_in_two_splits_is_a_leak():
    examples = [*texts(("a film", "1")), *texts(("A  Film", "1"), split="test")]
    assert codes(examples) == [("E320", "error", "test:1")]
    assert codes(examples, allow_leakage=True) == [("E320", "warning", "test:1")]


def test_a_text_with_two_labels_and_one_that_is_repeated():
    examples = texts(("a", "1"), ("b", "0"), ("a ", "0"), ("A", "1"))
    assert codes(examples) == [
        ("W336", "warning", "train:1"), ("W336", "warning", "train:3"), ("W336", "warning", "train:4"),
        ("W355", "warning", "train:3"),
    ]  # fmt: skip
    assert "3 times in train" in audit_texts(examples)[-1].text


def test_tags_and_answers_are_compared_too():
    words = texts((["a", "b"], ("O", "O")), (["a", "b"], ("O", "B-X")))
    assert {code for code, *_ in codes(words)} == {"W336", "W355"}
    pairs = texts((("q", "c"), (Answer(0, "c"),)), (("q", "d"), (Answer(0, "d"),)))
    assert codes(pairs) == []


def test_sentences_of_a_document_are_no_repeats():
    sentences = [Example([word], ("O",), f"f:{word}", "train", "d") for word in "ab"]
    assert codes(sentences) == []


def test_damaged_texts_are_named():
    findings = audit_texts(texts(("caf\u00c3\u00a9", "x"), ("a\x96b <br>", "x")))
    assert [(f.code, f.path) for f in findings] == [("W352", "train:1"), ("W353", "train:2"), ("W354", "train:2")]
    assert "cp1252" in findings[1].text
    assert findings[0].group in findings[0].text


def test_a_class_name_in_its_own_texts_is_named():
    spam = [(f"this is spam {i}", "Spam") for i in range(15)] + [(f"other {i}", "Spam") for i in range(15)]
    ham = [(f"mail {i}", "ham") for i in range(30)]
    (finding,) = audit_texts(texts(*spam, *ham))
    assert finding.code == "W356"
    assert finding.text == "50% of the texts of class 'Spam' hold this word, 0.0% of the others do"


@pytest.mark.parametrize(
    "rows",
    [
        [(f"a spam {i}", "spam") for i in range(10)],
        [(f"it is {i}", "is") for i in range(30)],
        [(f"10 points {i}", "10") for i in range(30)],
        [(f"spam {i}", "spam") for i in range(30)] + [(f"no spam {i}", "ham") for i in range(30)],
        [("spam" if not i else f"a {i}", "spam") for i in range(30)],
    ],
)
def test_words_that_meet_by_chance_are_not_named(rows):
    assert not [code for code, *_ in codes(texts(*rows)) if code == "W356"]


def test_lengths_are_those_of_whole_texts():
    examples = texts(("a", "x"), ("a b c d e f", "x"), ("the cats", "x"))
    assert token_lengths(examples, tokens(size=4, stride=1)).tolist() == [3, 8, 5]


def test_lengths_are_reported_by_split():
    rows = length_rows({"train": np.array([3, 5, 9]), "val": np.array([], np.int64)}, 5)
    assert {row.name: (row.value, row.unit, row.n) for row in rows} == {
        "length/train/p50": (5.0, "tokens", 3),
        "length/train/p95": (pytest.approx(8.6), "tokens", 3),
        "length/train/max": (9.0, "tokens", 3),
        "cut/train": (pytest.approx(100 / 3), "%", 3),
    }


def test_texts_that_are_cut_are_noted():
    assert find_cut(0, 10, 96) == []
    (finding,) = find_cut(3, 10, 96)
    assert (finding.code, finding.severity) == ("W357", "warning")
    assert finding.text.startswith("3 of 10 texts (30.0%) are cut at 96 tokens")
