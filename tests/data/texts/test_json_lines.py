import json

import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.texts.examples import Example
from effxfer.data.texts.json_lines import read_json_lines


def read(tmp_path, content: str, **options):
    (tmp_path / "t.jsonl").write_text(content, encoding="utf-8")
    return read_json_lines(tmp_path / "t.jsonl", DataSettings(source="t.jsonl", **options))


@pytest.mark.parametrize(
    ("line", "options", "example"),
    [
        ('{"text": " a\\n", "label": "x"}', {}, Example("a", "x", "t.jsonl:1")),
        ('{"text": "a", "label": 3, "more": []}', {}, Example("a", "3", "t.jsonl:1")),
        ('{"text": "a", "label": true}', {}, Example("a", "true", "t.jsonl:1")),
        ('{"text": "", "label": "x", "split": "Dev"}', {}, Example("", "x", "t.jsonl:1", "val")),
        ('{"q": "a", "c": "b", "y": "x"}', {"text_column": "q", "pair_column": "c", "label_column": "y"},
         Example(("a", "b"), "x", "t.jsonl:1")),
        ('{"text": ["a", "b"], "label": ["O", "B-X"]}', {}, Example(["a", "b"], ("O", "B-X"), "t.jsonl:1")),
        ('{"text": [], "label": []}', {}, Example([], (), "t.jsonl:1")),
    ],
)  # fmt: skip
def test_an_object_is_an_example(tmp_path, line, options, example):
    assert read(tmp_path, f"{line}\n\n", **options) == ([example], [])


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("{", "E351", "no JSON"),
        ("[" * 100_000, "E351", "no JSON"),
        ("[1]", "E351", "no JSON object"),
        ('{"label": "x"}', "E351", "no text in 'text'"),
        ('{"text": 5, "label": "x"}', "E351", "no text in 'text'"),
        ('{"text": ["a", 5], "label": ["O", "O"]}', "E351", "no text in 'text'"),
        ('{"text": ["a"], "label": "x"}', "E351", "words need a list of as many tags"),
        ('{"text": ["a"], "label": ["O", "O"]}', "E351", "words need a list of as many tags"),
        ('{"text": "a", "label": ["O"]}', "E351", "words need a list of as many tags"),
        ('{"text": "a"}', "E334", "no label in 'label'"),
        ('{"text": "a", "label": 0.5}', "E334", "'label' is 0.5, no name"),
        ('{"text": "a", "label": " "}', "E334", "no label in 'label'"),
        ('{"text": "a", "label": "x", "split": "later"}', "E334", "unknown split 'later'"),
        ('{"text": "a", "label": "x", "split": 5}', "E334", "unknown split 5"),
    ],
)
def test_a_line_of_another_form_is_named_or_left_out(tmp_path, line, code, text):
    content = f'{{"text": "a", "label": "x"}}\n{line}\n'
    listing = read(tmp_path, content)
    assert [(f.code, f.severity, f.path) for f in listing.findings] == [(code, "error", "t.jsonl:2")]
    assert text in listing.findings[0].text
    assert len(listing.examples) == 1
    assert read(tmp_path, content, skip_bad=True).findings[0].severity == "warning"


def test_a_second_text_is_required_if_it_is_named(tmp_path):
    (finding,) = read(tmp_path, '{"text": "a", "label": "x"}\n', pair_column="b").findings
    assert finding.text == "no text in 'b'"


JOINT = {"labels": {"intent": "single", "slots": "tags", "grade": "value"}}


@pytest.mark.parametrize(
    ("line", "words", "label"),
    [
        ('{"text": ["a", "b"], "intent": "x", "slots": ["O", "B-y"], "grade": 2.5}', ["a", "b"],
         ["x", '["O", "B-y"]', "2.5"]),
        ('{"text": "a  b", "intent": 3, "slots": "O B-y", "grade": null}', ["a", "b"], ["3", '["O", "B-y"]', ""]),
        ('{"text": ["a b"], "slots": ["O"]}', ["a b"], ["", '["O"]', ""]),
    ],
)  # fmt: skip
def test_an_object_has_labels_of_several_tasks(tmp_path, line, words, label):
    (example,), findings = read(tmp_path, line, **JOINT)
    assert (example.source, json.loads(str(example.label)), findings) == (words, label, [])


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ('{"text": ["a", "b"], "slots": ["O"]}', "E342", "'slots' has 1 tags for 2 words"),
        ('{"text": ["a"], "slots": ["O", ""]}', "E342", "no tags"),
        ('{"text": ["a"], "slots": [3]}', "E342", "no tags"),
        ('{"text": ["a"], "slots": {"O": 1}}', "E342", "'slots' holds no label of kind 'tags'"),
        ('{"text": ["a"], "grade": "much"}', "E342", "no finite number"),
        ('{"text": ["a"]}', "E334", "no label in"),
    ],
)
def test_labels_of_tasks_that_cannot_be_used_are_named_with_their_line(tmp_path, line, code, text):
    _, (finding,) = read(tmp_path, f"\n{line}", **JOINT)
    assert (finding.code, finding.path, finding.severity) == (code, "t.jsonl:2", "error")
    assert text in finding.text


def test_tasks_of_texts_alone_have_whole_texts_and_lists_of_labels(tmp_path):
    kinds = {"kind": "single", "marks": "multi"}
    lines = '{"text": "a b", "kind": "x", "marks": ["m", "n"]}\n{"text": "c", "kind": "y", "marks": []}'
    examples, _ = read(tmp_path, lines, labels=kinds)
    assert [example.source for example in examples] == ["a b", "c"]
    assert [json.loads(str(example.label)) for example in examples] == [["x", "m|n"], ["y", "|"]]
