import json

import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.texts import squad as module
from effxfer.data.texts.examples import Answer, Example
from effxfer.data.texts.squad import read_squad
from effxfer.errors import DataError

CONTEXT = "\u00c9mile wrote  Germinal in 1885."


def question(*answers: tuple[int, str], **fields) -> dict:
    listed = [{"answer_start": start, "text": text} for start, text in answers]
    return {"id": "q1", "question": " Who? ", "answers": listed, **fields}


def squad(*questions: object, context: object = CONTEXT) -> dict:
    return {"version": "2.0", "data": [{"title": "Zola", "paragraphs": [{"context": context, "qas": [*questions]}]}]}


def read(tmp_path, raw: object, **options):
    content = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    (tmp_path / "t.json").write_bytes(content)
    return read_squad(tmp_path / "t.json", DataSettings(source="t.json", **options))


def test_a_question_has_all_answers_at_their_characters(tmp_path):
    (example,) = read(tmp_path, squad(question((0, "\u00c9mile"), (0, "\u00c9mile"), (13, "Germinal")))).examples
    assert example == Example(
        ("Who?", CONTEXT), (Answer(0, "\u00c9mile"), Answer(13, "Germinal")), "t.json:q1", "", "t.json Zola"
    )


def test_a_question_without_an_answer_is_an_example(tmp_path):
    questions = [question(), question(is_impossible=True, plausible_answers=[]), question((0, "x"), is_impossible=True)]
    assert [example.label for example in read(tmp_path, squad(*questions)).examples] == [(), (), ()]


def test_an_empty_answer_at_minus_one_is_none(tmp_path):
    (example,) = read(tmp_path, squad(question((-1, "")))).examples
    assert example.label == ()
    with pytest.raises(DataError, match="without answer_start"):
        read(tmp_path, squad(question((-1, "\u00c9mile"))))


def test_a_file_of_windows_reads_as_any_other(tmp_path):
    raw = squad(question((0, "\u00c9mile")))
    content = b"\xef\xbb\xbf" + json.dumps(raw, indent=1, ensure_ascii=False).replace("\n", "\r\n").encode()
    assert read(tmp_path, content) == read(tmp_path, raw)


def test_blanks_around_an_answer_do_not_belong_to_it(tmp_path):
    (example,) = read(tmp_path, squad(question((11, "  Germinal ")))).examples
    assert example.label == (Answer(13, "Germinal"),)


@pytest.mark.parametrize("answer", [(1, "\u00c9mile"), (13, "germinal"), (99, "x"), (11, "  "), (0, "")])
def test_an_answer_that_is_not_at_its_place_is_named_or_left_out(tmp_path, answer):
    raw = squad(question(answer), question((0, "\u00c9mile"), id="q2"))
    listing = read(tmp_path, raw)
    assert [(f.code, f.severity, f.path) for f in listing.findings] == [("E353", "error", "t.json:q1")]
    assert [example.name for example in listing.examples] == ["t.json:q2"]
    assert read(tmp_path, raw, skip_bad=True).findings[0].severity == "warning"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "is no JSON"),
        (b"{'data': 1}", "is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        ([], "no list 'data'"),
        ({}, "no list 'data'"),
        ({"data": [1]}, "no list 'paragraphs'"),
        ({"data": [{"paragraphs": [{"context": 1, "qas": []}]}]}, "no text 'context'"),
        ({"data": [{"paragraphs": [{"context": ""}]}]}, "no list 'qas'"),
        (squad("x"), "no text 'question'"),
        (squad({"question": "x"}), "no list 'answers'"),
        (squad({"answers": []}), "no text 'question'"),
        (squad(question(), context=None), "no text 'context'"),
        (squad({**question(), "answers": [{}]}), "an answer of t.json:q1 without answer_start"),
        (squad(question((True, "x"))), "without answer_start"),
        (squad(question((-1, "x"))), "without answer_start"),
        (squad(question((0, None))), "no text 'text'"),
    ],
)
def test_another_form_is_named(tmp_path, raw, text):
    with pytest.raises(DataError, match=text) as caught:
        read(tmp_path, raw)
    assert caught.value.code == "E351"
    assert "paragraphs" in caught.value.hint


def test_names_and_titles_may_be_anything(tmp_path):
    raw = squad(question(id=[]), question(id=7))
    raw["data"][0]["title"] = 5
    assert [(e.name, e.document) for e in read(tmp_path, raw).examples] == [
        ("t.json", "t.json 1"),
        ("t.json:7", "t.json 1"),
    ]


def test_bytes_that_are_no_utf_8_and_large_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="is not UTF-8 text: byte 0xff in line 1") as caught:
        read(tmp_path, b'{"data": "\xff"}')
    assert caught.value.code == "E350"
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="above the limit") as caught:
        read(tmp_path, squad())
    assert caught.value.code == "E352"
