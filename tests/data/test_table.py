import csv
import json
import sys

import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.table import read_table
from effxfer.errors import DataError, ResourceError
from effxfer.settings import build
from tests.data.corpus import images_table


def write(root, rows, header=("path", "label"), delimiter=",", newline="\n", encoding="utf-8", name="t.csv"):
    with (root / name).open("w", newline="", encoding=encoding) as stream:
        table = csv.writer(stream, delimiter=delimiter, lineterminator=newline)
        table.writerows([header, *rows])
    return root / name


def read(file, **options):
    return read_table(file, DataSettings(source=str(file), **options))


def codes(found):
    return [finding.code for finding in found.findings]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_dialects(tmp_path, delimiter, newline, encoding):
    rows = images_table(tmp_path)
    found = read(write(tmp_path, rows, delimiter=delimiter, newline=newline, encoding=encoding))
    assert [(item.path, item.label) for item in found.items] == rows
    assert not found.findings


def test_other_columns_and_names(tmp_path):
    file = write(tmp_path, [("x", "a.jpg", "cat", "Valid")], header=("id", "file", "kind", "part"))
    found = read(file, path_column="file", label_column="kind", split_column="part")
    assert found.items[0][:3] == ("a.jpg", "cat", "val")


def test_split_column_is_optional_unless_named(tmp_path):
    file = write(tmp_path, [("a.jpg", "cat")])
    assert read(file).items[0].split == ""
    with pytest.raises(DataError, match="no column 'fold'") as caught:
        read(file, split_column="fold")
    assert caught.value.code == "E331"


def test_a_split_column_that_was_never_named_stays_so_in_a_manifest(tmp_path):
    file = write(tmp_path, [("a.jpg", "cat")])
    stored = DataSettings(source=str(file), target={"source": str(file)}).plain()
    again = build(DataSettings, json.loads(json.dumps(stored)), "data")
    assert read_table(file, again).items[0].split == ""
    assert read_table(file, again.target).items[0].split == ""


def test_missing_column_names_those_seen(tmp_path):
    with pytest.raises(DataError, match=r"no column 'label' \(did you mean 'labels'\?\); it has 'path', 'labels'"):
        read(write(tmp_path, [("a.jpg", "cat")], header=("path", "labels")))


def test_rows_with_another_delimiter_than_the_header(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.jpg;cat\n")
    with pytest.raises(DataError, match="line 2 has 1 fields, the header has 2") as caught:
        read(tmp_path / "t.csv")
    assert caught.value.code == "E330"


@pytest.mark.parametrize("content", [b"path,label\n\xff\xfe\x00,cat\n", b'path,label\n"a.jpg,cat\n'])
def test_not_a_table(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "t.csv")
    assert caught.value.code == "E330"


@pytest.mark.parametrize("content", ["path,label\n", "path,label\n\n\n"])
def test_no_rows(tmp_path, content):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "t.csv")
    assert caught.value.code == "E310"


def test_empty_file_and_no_file(tmp_path):
    (tmp_path / "t.csv").touch()
    with pytest.raises(DataError, match="no column"):
        read(tmp_path / "t.csv")
    with pytest.raises(DataError, match="no table"):
        read(tmp_path / "u.csv")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (("../a.jpg", "cat"), "E335"),
        (("x/../../a.jpg", "cat"), "E335"),
        (("/etc/passwd", "cat"), "E335"),
        (("c.jpg", ""), "E334"),
        (("c.jpg", "NaN"), "E334"),
        (("a.jpg", "cat"), "E332"),
        (("./a.jpg", "cat"), "E332"),
        (("a.jpg", "dog"), "E336"),
    ],
)
def test_bad_rows_are_named_with_their_number(tmp_path, row, code):
    found = read(write(tmp_path, [("a.jpg", "cat"), ("b.jpg", "dog"), row]))
    assert codes(found) == [code]
    assert found.findings[0].severity == "error"
    assert "row 4" in found.findings[0].text
    assert len({item.path for item in found.items}) == len(found.items) == 2


def test_absolute_path_inside_becomes_relative(tmp_path):
    found = read(write(tmp_path, [(f"{tmp_path}/x/a.jpg", "cat")]))
    assert found.items[0].path == "x/a.jpg"


@pytest.mark.parametrize("split", ["trian", "holdout"])
def test_unknown_split(tmp_path, split):
    found = read(write(tmp_path, [("a.jpg", "cat", split)], header=("path", "label", "split")))
    assert codes(found) == ["E334"]


def test_some_rows_without_split(tmp_path):
    found = read(write(tmp_path, [("a.jpg", "cat", "train"), ("b.jpg", "cat", "")], header=("path", "label", "split")))
    assert codes(found) == ["E334"]
    assert found.findings[0].path == "b.jpg"


def test_labels_are_names(tmp_path):
    found = read(
        write(tmp_path, [("a.jpg", "1"), ("b.jpg", "01"), ("c.jpg", "no"), ("d.jpg", "Cat"), ("e.jpg", "cat")])
    )
    assert [item.label for item in found.items] == ["1", "01", "no", "Cat", "cat"]
    assert codes(found) == ["W337", "W318"]


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [1.0, 2.0, float("nan")], "split": ["train", "test", "val"]}
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert [item[:3] for item in found.items] == [("a.jpg", "1", "train"), ("b.jpg", "2", "test")]
    assert codes(found) == ["E334"]


def test_broken_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "t.parquet")
    assert caught.value.code == "E330"


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").touch()
    with pytest.raises(ResourceError, match=r"effxfer\[table\]"):
        read(tmp_path / "t.parquet")
