import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.texts.examples import Example
from effxfer.data.texts.label_lines import read_label_lines


def read(tmp_path, content: str, **options):
    (tmp_path / "t.txt").write_text(content, encoding="utf-8")
    return read_label_lines(tmp_path / "t.txt", DataSettings(source="t.txt", **options))


def test_a_label_and_a_text_are_separated_by_the_first_blank(tmp_path):
    listing = read(tmp_path, "1 a gripping film\n\n0 dull .\n  1  x\n")
    assert listing.examples == [
        Example("a gripping film", "1", "t.txt:1"),
        Example("dull .", "0", "t.txt:3"),
        Example("x", "1", "t.txt:4"),
    ]
    assert listing.findings == []


def test_a_tab_in_the_first_line_separates_labels_with_blanks(tmp_path):
    listing = read(tmp_path, "very good\ta film\nbad\tb\tc\n")
    assert [example[:2] for example in listing.examples] == [("a film", "very good"), ("b\tc", "bad")]


def test_a_line_without_a_separator_is_named_or_left_out(tmp_path):
    listing = read(tmp_path, "1 a\nword\n0 b\n")
    assert [(f.code, f.path, f.severity) for f in listing.findings] == [("E351", "t.txt:2", "error")]
    assert len(listing.examples) == 2
    assert read(tmp_path, "1 a\nword\n", skip_bad=True).findings[0].severity == "warning"


def test_a_label_with_an_empty_text_is_an_example(tmp_path):
    assert read(tmp_path, "1 a\n0 \n").examples[1] == Example("", "0", "t.txt:2")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_has_no_example(tmp_path, content):
    assert read(tmp_path, content) == ([], [])
