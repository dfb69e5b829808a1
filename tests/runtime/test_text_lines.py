import io
import sys
from types import SimpleNamespace

import pytest

from effxfer.runtime import text_lines
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text_lines import STANDARD_INPUT, read_texts


def file_of(tmp_path, content, name="texts.txt"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("", []),
        ("\n", [""]),
        ("one", ["one"]),
        ("\ufeffäh\r\n\ntwo\ttabs\n", ["äh", "", "two\ttabs"]),
        ("a\u2028b\x0bc\n", ["a\u2028b\x0bc"]),
    ],
)
def test_a_text_for_each_line_also_for_empty_ones(tmp_path, content, texts):
    assert read_texts(file_of(tmp_path, content)) == texts


def test_pairs_have_a_tab_between_them(tmp_path):
    assert read_texts(file_of(tmp_path, "a b\tc\n\t\n"), pairs=True) == [("a b", "c"), ("", "")]
    for bad in ("a", "a\tb\tc"):
        with pytest.raises(TextError, match=r"line 2 of .*texts\.txt is not a pair of texts: a"):
            read_texts(file_of(tmp_path, f"x\ty\n{bad}"), pairs=True)


JSON = '"one"\n{"text": "t\\nwo", "id": 7}\n["three"]\n'
PAIRS = '{"other": "b", "text": "a"}\n["a", "b"]\n'


@pytest.mark.parametrize(("name", "as_json"), [("a.jsonl", False), ("a.NDJSON", False), ("a.txt", True)])
def test_lines_of_json(tmp_path, name, as_json):
    assert read_texts(file_of(tmp_path, JSON, name), as_json=as_json) == ["one", "t\nwo", "three"]
    assert read_texts(file_of(tmp_path, PAIRS, name), as_json=as_json, pairs=True) == [("a", "b")] * 2


@pytest.mark.parametrize("line", ["", "{", "7", "null", '{"text": 7}', '{"body": "x"}', '["a", "b"]', "[" * 100_000])
def test_a_line_of_json_that_is_no_text_is_named(tmp_path, line):
    with pytest.raises(TextError, match=r"line 2 of .*a\.jsonl is not a text") as caught:
        read_texts(file_of(tmp_path, f'"x"\n{line}\n', "a.jsonl"))
    assert (caught.value.code, caught.value.exit_code) == ("E350", 3)


@pytest.mark.parametrize("line", ['"a"', '{"text": "a"}', '["a"]', '["a", 7]'])
def test_a_line_of_json_that_is_no_pair_is_named(tmp_path, line):
    with pytest.raises(TextError, match="is not a pair of texts"):
        read_texts(file_of(tmp_path, line, "a.jsonl"), pairs=True)


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(TextError, match="cannot be read"):
        read_texts(tmp_path / "absent.txt")
    with pytest.raises(TextError, match="is not UTF-8 text: invalid start byte at byte 1"):
        read_texts(file_of(tmp_path, b"a\xff"))
    monkeypatch.setattr(text_lines, "LARGEST_FILE", 3)
    with pytest.raises(TextError, match="E352"):
        read_texts(file_of(tmp_path, "long"))


def test_standard_input_is_read_too(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    assert read_texts(STANDARD_INPUT) == ["a", "b"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    monkeypatch.setattr(text_lines, "LARGEST_FILE", 3)
    with pytest.raises(TextError, match="E352"):
        read_texts(STANDARD_INPUT)
