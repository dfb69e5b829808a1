"""Tables of several labels or values: repeated files, bad cells, delimiters, Parquet."""

import pytest

from effxfer.errors import DataError
from tests.data.label_tables import AGE, FLAGS, TAGS, VALUES
from tests.data.sources.test_table import codes, read, write


def labelled(tmp_path, kind, *rows):
    header = ("path", "tags", "sea", "dog", "weight", "age")
    cells = [dict(zip(("path", *names), row, strict=True)) for names, row in rows]
    return read(write(tmp_path, [[row.get(name, "1") for name in header] for row in cells], header=header), **kind)


REPEATED = {
    "names in another order": (TAGS, ("tags",), ["dog|beach", " beach | dog|"], "E332"),
    "other names": (TAGS, ("tags",), ["dog|beach", "beach"], "E336"),
    "no name": (TAGS, ("tags",), ["dog|beach", ""], "E336"),
    "flags": (FLAGS, ("dog",), ["yes", "1.0"], "E332"),
    "other flags": (FLAGS, ("dog",), ["yes", "no"], "E336"),
    "an unknown flag": (FLAGS, ("dog",), ["yes", "-1"], "E336"),
    "numbers": (VALUES, ("age",), ["3.50", "+35e-1"], "E332"),
    "other numbers": (VALUES, ("age",), ["3.5", "3.6"], "E336"),
    "an unknown number": (VALUES, ("age",), ["3.5", ""], "E336"),
}


@pytest.mark.parametrize("case", REPEATED)
def test_a_file_with_two_rows_is_a_duplicate_if_its_labels_are_equal(tmp_path, case):
    kind, names, (first, second), code = REPEATED[case]
    found = labelled(tmp_path, kind, (names, ("a.jpg", first)), (names, ("./a.jpg", second)), (names, ("b.jpg", first)))
    assert [(f.code, f.severity) for f in found.findings if f.code != "W342"] == [(code, "error")]
    assert "row 3" in found.findings[0].text
    assert len(found.items) == 2


def test_two_labels_of_one_file_are_described(tmp_path):
    rows = [(("sea", "dog"), ("a.jpg", "1", "")), (("sea", "dog"), ("a.jpg", "0", "0"))]
    assert labelled(tmp_path, FLAGS, *rows).findings[0].text == (
        "row 3: one file with the labels 'no label', '?dog, sea'"
    )


@pytest.mark.parametrize(
    ("kind", "name", "cell", "code", "text"),
    [
        (VALUES, "age", "old", "E342", "row 3: 'age' is 'old', no finite number"),
        (VALUES, "weight", "inf", "E342", "row 3: 'weight' is 'inf', no finite number"),
        (FLAGS, "dog", "perhaps", "E342", "row 3: 'dog' is 'perhaps', neither 1 nor 0"),
        (TAGS, "tags", "['dog']", "E342", "row 3: a list in brackets: ['dog']"),
        (TAGS, "tags", "NaN", "E334", "row 3: no label ('NaN')"),
        (AGE, "age", "", "E334", "row 3: no value in 'age'"),
    ],
)
def test_a_bad_cell_is_named_with_its_row(tmp_path, kind, name, cell, code, text):
    good = {"tags": "dog|sea", "sea": "1", "dog": "0", "weight": "1", "age": "2"}
    names = tuple(good)
    rows = [(names, (f"{n}.jpg", *({**good, name: cell} if n == 1 else good).values())) for n in range(3)]
    found = labelled(tmp_path, kind, *rows)
    assert [(f.code, f.path, f.text) for f in found.findings] == [(code, "1.jpg", text)]
    assert [item.path for item in found.items] == ["0.jpg", "2.jpg"]


def test_names_of_labels_are_compared_like_classes(tmp_path):
    found = read(write(tmp_path, [("a.jpg", "Dog|1"), ("b.jpg", "dog|01")], header=("path", "tags")), **TAGS)
    assert found.classes == ("01", "1", "Dog", "dog")
    assert codes(found) == ["W337", "W318"]


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_the_delimiter_of_a_table_is_not_that_of_labels(tmp_path, delimiter):
    rows = [("a.jpg", "dog|sea"), ("b.jpg", "dog")]
    found = read(write(tmp_path, rows, header=("path", "tags"), delimiter=delimiter), **TAGS)
    assert found.classes == ("dog", "sea")
    assert [item.label for item in found.items] == ["11", "10"]


def test_columns_alone_tell_the_delimiter(tmp_path):
    found = read(write(tmp_path, [("a.jpg", "3", "0")], header=("path", "a,b", "c"), delimiter=";"),
                 labels="value", label_columns=("a,b", "c"))  # fmt: skip
    assert found.items[0].label == "3 0"


def test_missing_label_columns_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no column 'dog'; it has 'path', 'sea'") as caught:
        read(write(tmp_path, [("a.jpg", "1")], header=("path", "sea")), **FLAGS)
    assert caught.value.code == "E331"
    assert "label_columns" in caught.value.hint


@pytest.mark.parametrize("kind", [TAGS, FLAGS, VALUES])
def test_other_kinds_in_parquet(tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "tags": ["sea|dog", None, "dog"], "sea": [True, False, None], "dog": [1.0, float("nan"), -1.0],
        "weight": [0.1, 2.0, 3.0], "age": [1.0, None, float("nan")], "split": ["train", "val", "test"],
    }  # fmt: skip
    parquet.write_table(pa.table({"path": ["a.jpg", "b.jpg", "c.jpg"], **columns}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", **kind)
    expected = {"tags": ["11", "00", "10"], "sea": ["11", "?0", "??"], "weight": ["0.1 1", "2 nan", "3 nan"]}
    assert [item.label for item in found.items] == expected[
        "tags" if kind is TAGS else "sea" if kind is FLAGS else "weight"
    ]
    assert [item.split for item in found.items] == ["train", "val", "test"]
    assert not found.findings


def test_lists_in_parquet_are_refused_with_what_would_work(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"path": ["a.jpg"], "tags": [["dog", "sea"]]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'tags' holds list") as caught:
        read(tmp_path / "t.parquet", **TAGS)
    assert "lists as text such as `beach|dog`" in caught.value.hint
