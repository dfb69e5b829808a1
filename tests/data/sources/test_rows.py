import os

import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.sources import rows
from effxfer.data.sources.rows import read_rows
from effxfer.errors import DataError

HEAD = "path,label\n"


def read(root, content, name="t.csv", **options):
    file = root / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(file, DataSettings(source=str(file), **options))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (HEAD.encode() + b"a.jpg,cat\nb\0.jpg,dog\n", "holds a NUL byte in line 3"),
        ((HEAD + "a.jpg,cat\n").encode("utf-16"), "is UTF-16 text"),
        ((HEAD + "a.jpg,caf\u00e9\n").encode("cp1252"), "is not UTF-8 text: byte 0xe9 in line 2"),
        ("pfad,schlüssel\n".encode("latin-1"), "is not UTF-8 text: byte 0xfc in line 1"),
        (b"PK\x03\x04" + bytes(20), "is a zip or an Excel file"),
        (HEAD + f"a.jpg,{'x' * 140_000}\n", "field larger than field limit"),
        (HEAD + '"a.jpg,cat\nb.jpg,dog\n', "unexpected end of data near line 3"),
    ],
)
def test_what_is_no_utf8_text_is_named_with_its_line(tmp_path, content, text):
    with pytest.raises(DataError, match=text) as caught:
        read(tmp_path, content)
    assert caught.value.code == "E330"
    assert caught.value.hint


def test_a_column_that_occurs_twice(tmp_path):
    with pytest.raises(DataError, match="several columns 'label'") as caught:
        read(tmp_path, "path,label,label\na.jpg,cat,dog\n")
    assert caught.value.code == "E331"
    assert read(tmp_path, "path,label,note,note\na.jpg,cat,x,y\n").rows[0].label == "cat"


def test_thousands_of_columns_are_not_all_listed(tmp_path):
    with pytest.raises(DataError, match=r"it has '0', '1', '2', '3', '4' and 4995 more"):
        read(tmp_path, ",".join(map(str, range(5000))) + "\n")


@pytest.mark.parametrize("blank", [",\n", " , \n", ",,,\n", "\r\n,\r\n"])
def test_empty_rows_are_left_out_with_a_note(tmp_path, blank):
    found = read(tmp_path, f"{HEAD}a.jpg,cat\n{blank}b.jpg,dog\n")
    assert [row.path for row in found.rows] == ["a.jpg", "b.jpg"]
    (note,) = found.findings
    assert (note.code, note.severity) == ("W330", "note")
    assert note.text.startswith("empty rows left out: 1 (row ")


def test_a_number_with_and_without_quotes_is_noted(tmp_path):
    found = read(tmp_path, HEAD + 'a.jpg,1\n"b,c.jpg","2"\nc.jpg,"1"\nd.jpg,2\n"e,f.jpg",3\n')
    assert [row.label for row in found.rows] == ["1", "2", "1", "2", "3"]
    (warning,) = found.findings
    assert (warning.code, warning.severity) == ("W337", "warning")
    assert warning.text == "with and without quotes, taken as one class each: '1'"


@pytest.mark.parametrize("rest", ['a.jpg,"1"\nb.jpg,"2"\n', 'a.jpg,cat\nb.jpg,"cat"\n', "a.jpg,1\nb.jpg,1\n"])
def test_quotes_alone_are_no_news(tmp_path, rest):
    assert read(tmp_path, HEAD + rest).findings == []


def test_no_more_rows_and_bytes_than_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MAX_ROWS", 2)
    with pytest.raises(DataError, match="more than 2 rows") as caught:
        read(tmp_path, HEAD + "a.jpg,cat\n" * 3)
    assert caught.value.code == "E330"
    with (tmp_path / "t.csv").open("wb") as stream:
        stream.truncate(1_000_000_000)
    with pytest.raises(DataError, match="1000 MB is above the limit of 256 MB for a table") as caught:
        read_rows(tmp_path / "t.csv", DataSettings(source="t.csv"))
    assert caught.value.code == "E330"


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_pipe_is_no_table(tmp_path, name):
    pytest.importorskip("pyarrow")
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="it is a named pipe, no regular file") as caught:
        read_rows(tmp_path / name, DataSettings(source=name))
    assert caught.value.code == "E330"


@pytest.mark.parametrize("labels", [[["cat"]], [{"name": "cat"}], [b"cat"]])
def test_nested_and_binary_columns_of_parquet(tmp_path, labels):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"path": ["a.jpg"], "label": labels, "image": [{"bytes": b"x"}]}), tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match=r"column 'label' holds .*, not text") as caught:
        read_rows(tmp_path / "t.parquet", DataSettings(source="t.parquet"))
    assert caught.value.code == "E331"


def test_what_other_columns_of_parquet_hold_does_not_matter(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kinds = pa.array(["cat", "dog"]).dictionary_encode()
    parquet.write_table(
        pa.table({"image": [{"b": b"x"}] * 2, "path": ["a", "b"], "label": kinds}), tmp_path / "t.parquet"
    )
    found = read_rows(tmp_path / "t.parquet", DataSettings(source="t.parquet")).rows
    assert [row[:3] for row in found] == [(1, "a", "cat"), (2, "b", "dog")]


def test_text_of_parquet_that_is_no_utf8(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"path": ["kept.jpg"], "label": ["qqqq"]}), tmp_path / "t.parquet", compression="none")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content.replace(b"qqqq", b"\xd5qqq"))
    with pytest.raises(DataError, match="is not a Parquet table: 'utf-8' codec") as caught:
        read_rows(tmp_path / "t.parquet", DataSettings(source="t.parquet"))
    assert caught.value.code == "E330"
