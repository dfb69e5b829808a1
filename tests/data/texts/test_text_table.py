import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.texts.examples import Example
from effxfer.data.texts.text_table import read_text_table
from effxfer.errors import DataError


def read(tmp_path, content: str, name: str = "t.csv", **options):
    (tmp_path / name).write_text(content, encoding="utf-8")
    return read_text_table(tmp_path / name, DataSettings(source=name, **options))


def test_texts_may_hold_delimiters_quotes_and_line_ends(tmp_path):
    listing = read(tmp_path, 'label,text\n1,"a, ""b""\nc"\n0,d\n')
    assert listing.examples == [Example('a, "b"\nc', "1", "t.csv:3"), Example("d", "0", "t.csv:4")]


def test_columns_are_named_and_splits_read(tmp_path):
    listing = read(
        tmp_path, "body\tpart\tclass\nx y\tDev\tgood\nz\ttrain\tbad\n", "t.tsv",
        text_column="body", label_column="class", split_column="part",
    )  # fmt: skip
    assert listing.examples == [Example("x y", "good", "t.tsv:2", "val"), Example("z", "bad", "t.tsv:3", "train")]


def test_a_second_text_makes_a_pair(tmp_path):
    listing = read(tmp_path, "text,answer,label\nq,a,1\nq,,0\n", pair_column="answer")
    assert [example.source for example in listing.examples] == [("q", "a"), ("q", "")]


def test_parquet_is_read_as_csv(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"label": [1.0, 2.0], "text": ["a", None]}), tmp_path / "t.parquet")
    listing = read_text_table(tmp_path / "t.parquet", DataSettings(source="t.parquet"))
    assert [example[:3] for example in listing.examples] == [("a", "1", "t.parquet:1"), ("", "2", "t.parquet:2")]


@pytest.mark.parametrize(("row", "text"), [("x,,", "no label"), ("x,nan,", "no label"), ("x,1,some", "unknown split")])
def test_a_row_without_a_label_or_a_known_split_is_named_or_left_out(tmp_path, row, text):
    content = f"text,label,split\na,1,train\n{row}\n"
    (finding,) = read(tmp_path, content).findings
    assert (finding.code, finding.severity, finding.path) == ("E334", "error", "t.csv:3")
    assert text in finding.text
    assert read(tmp_path, content, skip_bad=True).findings[0].severity == "warning"
    assert len(read(tmp_path, content).examples) == 1


@pytest.mark.parametrize(
    ("content", "options", "code", "text"),
    [
        ("txt,label\na,1\n", {}, "E331", "has no column 'text'"),
        ("text,label\na,1\n", {"pair_column": "b"}, "E331", "has no column 'b'"),
        ("text,label\na,1\n", {"split_column": "part"}, "E331", "has no column 'part'"),
        ("text,label\na,1,2\n", {}, "E330", "line 2 has 3 fields"),
        ('text,label\n"a,1\n', {}, "E330", "is not a table"),
        ("text,label\na\0,1\n", {}, "E330", "NUL byte in line 2"),
    ],
)
def test_what_is_no_table_of_texts_is_named(tmp_path, content, options, code, text):
    with pytest.raises(DataError, match=text) as caught:
        read(tmp_path, content, **options)
    assert caught.value.code == code
    assert code != "E331" or "text_column" in caught.value.hint


def test_a_text_of_a_megabyte_fits_into_a_cell(tmp_path):
    listing = read(tmp_path, f"text,label\n{'a' * 1_000_000},1\n")
    assert len(listing.examples[0].source) == 1_000_000


def test_labels_of_other_kinds_are_read_as_those_of_images(tmp_path):
    content = "text,x,y,split\na,1,0,train\nb,,yes,test\n"
    flags = read(tmp_path, content, labels="multi", label_columns=("x", "y"))
    assert [example[:4] for example in flags.examples] == [
        ("a", "10", "t.csv:2", "train"),
        ("b", "?1", "t.csv:3", "test"),
    ]
    values = read(tmp_path, "text,x\na,1.50\nb,-2\n", labels="value", label_column="x")
    assert [example.label for example in values.examples] == ["1.5", "-2"]


def test_a_cell_that_is_no_value_is_named(tmp_path):
    (finding,) = read(tmp_path, "text,x\na,1,5\n".replace("1,5", '"1,5"'), labels="value", label_column="x").findings
    assert (finding.code, finding.path) == ("E342", "t.csv:2")
