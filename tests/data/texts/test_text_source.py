from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effxfer.data.settings import DataSettings
from effxfer.data.texts.text_source import READERS, read_texts
from effxfer.errors import DataError, SettingsError


def write(folder, **files: str):
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return folder


def read(source, **options):
    return read_texts(DataSettings(source=str(source), **options))


def refuse(source, code: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(source, **options)
    assert caught.value.code == code
    return str(caught.value)


def test_a_folder_has_a_file_for_each_split(tmp_path):
    write(tmp_path, a__train__txt="1 a\n0 b\n", a__dev__txt="1 c\n", test__txt="0 d\n", __DS_Store="x")
    counts = Counter(example.split for example in read(tmp_path).examples)
    assert counts == {"train": 2, "val": 1, "test": 1}


def test_a_pattern_chooses_files(tmp_path):
    write(tmp_path, a__train="1 a\n", a__dev="0 b\n", b__train="1 c\n")
    assert [example.source for example in read(tmp_path / "a.*").examples] == ["b", "a"]


def test_the_name_of_a_single_file_is_no_split(tmp_path):
    write(tmp_path, train__txt="1 a\n")
    assert read(tmp_path / "train.txt").examples[0].split == ""
    assert read_texts(DataSettings(source="train.txt"), tmp_path).examples[0].source == "a"


def test_a_split_in_the_file_goes_before_the_files_name(tmp_path):
    write(tmp_path, train__csv="text,label,split\na,1,test\n", dev__csv="text,label\nb,1\n")
    assert [example.split for example in read(tmp_path).examples] == ["val", "test"]


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        ("t.txt", "1 a\n", "a"),
        ("t.unknown", "1 a\n", "a"),
        ("t.csv", "text,label\na,1\n", "a"),
        ("t.TSV", "text\tlabel\na\t1\n", "a"),
        ("t.jsonl", '{"text": "a", "label": "1"}\n', "a"),
        ("t.conll", "a O\n", ["a"]),
        (
            "t.json",
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "a", "answers": []}]}]}]}',
            ("a", "c"),
        ),
    ],
)
def test_the_format_goes_by_the_suffix(tmp_path, name, content, source):
    (tmp_path / name).write_text(content)
    assert read(tmp_path / name).examples[0].source == source


def test_a_format_that_is_named_goes_before_the_suffix(tmp_path):
    write(tmp_path, t__csv="1 a\n")
    assert read(tmp_path / "t.csv", format="lines").examples[0].source == "a"


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("t.txt", "1 a\n", {"pair_column": "other"}),
        ("t.txt", "1 a\n", {"text_column": "body"}),
        ("t.conll", "a O\n", {"labels": "tags", "pair_column": "other"}),
        ("t.csv", "text,label\na,1\n", {"encoding": "cp1252"}),
        ("t.csv", "text,label\na,1\n", {"tag_column": 2}),
        ("t.json", '{"data": []}', {"labels": "span", "label_column": "answer"}),
        ("requests", "", {"pair_column": "other"}),
    ],
)
def test_a_setting_that_the_source_is_not_read_by_is_refused(tmp_path, name, content, options):
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError, match=f"{list(options)[-1]} has no effect") as caught:
        read(tmp_path / name if content else name, **options)
    assert caught.value.code == "E201"


def test_a_setting_that_one_of_several_files_is_read_by_is_taken(tmp_path):
    write(tmp_path, train__csv="body,label\na,1\n", dev__txt="1 b\n")
    assert [example.source for example in read(tmp_path, text_column="body").examples] == ["b", "a"]


def test_empty_texts_are_left_out_with_a_warning(tmp_path):
    listing = read(write(tmp_path, t__txt="1 a\n0 \n") / "t.txt")
    assert [example.source for example in listing.examples] == ["a"]
    assert [(f.code, f.severity, f.path) for f in listing.findings] == [("W350", "warning", "t.txt:2")]


def test_a_source_without_a_text_is_refused(tmp_path):
    assert "holds no text" in refuse(write(tmp_path, t__txt="") / "t.txt", "E310")
    assert "holds no text" in refuse(write(tmp_path, t__txt="1 \n") / "t.txt", "E310")
    assert "no file" in refuse(tmp_path / "absent.txt", "E310")
    assert "has 0 files" in refuse(tmp_path / "x.*", "E310")
    (tmp_path / "empty").mkdir()
    assert "has 0 files" in refuse(tmp_path / "empty", "E310")
    assert "cannot be read" in refuse(tmp_path / "absent" / "x.*", "E319")


def test_files_without_a_split_in_their_name_are_named(tmp_path):
    write(tmp_path, train__txt="1 a\n", contest__txt="1 b\n")
    assert "contest.txt" in refuse(tmp_path, "E310")


def test_rows_without_a_split_beside_others_are_named(tmp_path):
    write(tmp_path, t__csv="text,label,split\na,1,train\nb,1,\n")
    assert "no split for t.csv:3" in refuse(tmp_path / "t.csv", "E334")


def test_problems_are_counted_with_the_first_lines(tmp_path):
    write(tmp_path, t__txt="1 a\n" + "x\n" * 7)
    text = refuse(tmp_path / "t.txt", "E351")
    assert "7 problems: t.txt:2: no blank" in text
    assert "and 2 more" in text
    assert len(read(tmp_path / "t.txt", skip_bad=True).examples) == 1


PIECES = st.sampled_from(
    [b"text,label\n", b"a", b"\n", b" ", b"\t", b",", b'"', b"{", b"}", b"[", b"]", b":", b'{"text":"a","label":"b"}',
     b"\xff", b"\0", b"\xef\xbb\xbf", b"\r", b"-DOCSTART-", b"B-X", "\u2028".encode(), b"data", b"1"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=20).map(b"".join) | st.binary(max_size=80), st.sampled_from(sorted(READERS)))
def test_any_bytes_are_read_or_refused_with_a_code(tmp_path, content, form):
    file = tmp_path / ("t.csv" if form == "table" else "t.txt")
    file.write_bytes(content)
    with suppress(DataError):
        assert read(file, format=form).examples
