import pytest

from effxfer.data.texts import examples as module
from effxfer.data.texts.examples import (
    Answer,
    Example,
    content_key,
    items,
    label_name,
    limit_examples,
    limit_findings,
    line_finding,
    text_of,
)
from effxfer.errors import DataError


def example(source, label="x", **fields) -> Example:
    return Example(source, label, "f:1", **fields)


@pytest.mark.parametrize("other", ["a cat", " A\tCAT\n", "\uff41 cat", "a\u00a0cat"])
def test_texts_that_differ_in_form_only_have_equal_keys(other):
    assert content_key(example("a cat")) == content_key(example(other))


@pytest.mark.parametrize("other", ["a ca t", "acat", "a cat!", ("a", "cat"), ""])
def test_other_texts_have_other_keys(other):
    assert content_key(example("a cat")) != content_key(example(other))


def test_a_pair_and_words_are_told_apart_by_their_parts():
    assert content_key(example(("a b", "c"))) != content_key(example(("a", "b c")))
    assert content_key(example(["a", "b"])) != content_key(example(["a b"]))
    assert text_of(example(("a b", "c"))) == text_of(example(["a", "b", "c"])) == "a b c"


def test_labels_have_names():
    assert label_name(example("a")) == "x"
    assert label_name(example(["a", "b"], ("O", "B-X"))) == '["O", "B-X"]'
    assert label_name(example(("q", "c"), (Answer(3, "y"),))) == '[[3, "y"]]'
    assert label_name(example(("q", "c"), ())) == "[]"


def test_items_share_a_content_if_their_text_or_their_document_is_the_same():
    listed = items([example("A"), example("a", "y"), example("b", document="d 1"), example("c", document="d 1")])
    assert listed[0].sha256 == listed[1].sha256
    assert listed[2].sha256 == listed[3].sha256 != listed[0].sha256
    assert (listed[1].path, listed[1].label, listed[1].split) == ("f:1", "y", "")


def test_a_line_that_cannot_be_used_is_an_error_or_left_out():
    error = line_finding("E351", "f", 3, "no text", "write one")
    assert (error.severity, error.path, error.text, error.hint) == ("error", "f:3", "no text", "write one")
    warning = line_finding("E351", "f", 3, "no text", "write one", skip_bad=True)
    assert (warning.severity, warning.text, warning.group) == ("warning", "no text, left out", "lines left out")


def test_reading_stops_at_too_many_problems_and_examples(monkeypatch):
    finding = line_finding("E351", "f", 3, "no text", "")
    limit_findings([finding] * 999, "f")
    with pytest.raises(DataError, match="1000 problems, the first in f:3: no text") as caught:
        limit_findings([finding] * 1000, "f")
    assert caught.value.code == "E351"
    monkeypatch.setattr(module, "MOST_EXAMPLES", 2)
    limit_examples(2, "f")
    with pytest.raises(DataError, match="more than 2 examples") as caught:
        limit_examples(3, "f")
    assert caught.value.code == "E352"
