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
        ('{"text": "a", "label": 0.5}', "E334", "no label in 'label'"),
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
