import csv
import json
import sys

import pytest

from effxfer.data.load import survey
from effxfer.data.settings import DataSettings
from effxfer.data.sources.table import read_table
from effxfer.errors import DataError, ResourceError, SettingsError
from effxfer.settings import build
from tests.data.corpus import class_folders, images_table, jpeg


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
    assert [item.path for item in found.items] == ["a.jpg"]


def test_rows_without_a_split_beside_all_three_are_an_error_and_no_defect(tmp_path):
    root = class_folders(tmp_path, {"cat": 6, "dog": 6}, seed=91)
    splits = ["train", "train", "val", "test", "", "train"]
    rows = [(f"{label}/{n:03d}.jpg", label, splits[n]) for label in ("cat", "dog") for n in range(6)]
    table = write(root, rows, header=("path", "label", "split"))
    listing = survey(DataSettings(source=str(table)), cache=tmp_path / "cache")
    assert [(f.code, f.path) for f in listing.findings if f.severity == "error"] == [
        ("E334", "cat/004.jpg"), ("E334", "dog/004.jpg"),
    ]  # fmt: skip


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


@pytest.fixture
def images(tmp_path):
    """A folder of images, and a table elsewhere."""
    class_folders(tmp_path / "store", {"img": 4})
    (tmp_path / "lists").mkdir()
    return tmp_path / "store"


def listed(tmp_path, paths, **options):
    file = write(tmp_path / "lists", [(path, "cat" if n % 2 else "dog") for n, path in enumerate(paths)])
    return survey(DataSettings(source=str(file), **options), cache=tmp_path / "cache")


def problems(listing):
    return [(f.code, f.path) for f in listing.findings if f.code in ("W317", "E333", "E335")]


@pytest.mark.parametrize("prefix", ["img/", "./img/", "{root}/img/", "img\\"])
def test_images_elsewhere_than_the_table(tmp_path, images, prefix):
    paths = [f"{prefix.format(root=images)}{n:03d}.jpg" for n in range(4)]
    found = listed(tmp_path, paths, root=str(images))
    assert [item.path for item in found.items] == [f"img/{n:03d}.jpg" for n in range(4)]
    assert found.root == images
    assert {code for code, _ in problems(found) if code.startswith("E")} == set()


def test_a_root_may_be_named_by_a_link(tmp_path, images):
    (tmp_path / "link").symlink_to(images)
    found = listed(tmp_path, [f"{images}/img/{n:03d}.jpg" for n in range(4)], root=str(tmp_path / "link"))
    assert [item.path for item in found.items] == [f"img/{n:03d}.jpg" for n in range(4)]


def test_nothing_outside_of_the_root_is_read(tmp_path, images):
    found = listed(
        tmp_path, ["img/000.jpg", "../lists/t.csv", "/etc/passwd", f"{tmp_path}/lists/x.jpg"], root=str(images)
    )
    assert [code for code, _ in problems(found)] == ["E335"] * 3
    assert "data.root=DIR" in next(f.hint for f in found.findings if f.code == "E335")


def test_links_out_of_the_root_are_followed_with_a_warning(tmp_path, images):
    class_folders(tmp_path, {"far": 3}, seed=90)
    (images / "out").symlink_to(tmp_path / "far")
    (images / "one.jpg").symlink_to(tmp_path / "far" / "002.jpg")
    found = listed(tmp_path, ["img/000.jpg", "out/000.jpg", "out/001.jpg", "one.jpg"], root=str(images))
    assert problems(found) == [("W317", "out"), ("W317", "one.jpg")]
    assert len(found.items) == 4


def test_a_root_that_is_no_folder(tmp_path, images):
    with pytest.raises(DataError, match=r"data.root is .*nowhere, which is no folder") as caught:
        listed(tmp_path, ["img/000.jpg"], root=str(images / "nowhere"))
    assert caught.value.code == "E310"
    with pytest.raises(SettingsError, match="is no table"):
        build(DataSettings, {"source": str(images), "root": str(images)}, "data")


def test_backslashes_are_separators_where_the_file_lies_there(tmp_path, images):
    (images / "odd\\name.jpg").write_bytes(jpeg(70))
    paths = ["img\\000.jpg", "img\\001.jpg", "odd\\name.jpg", "img\\gone.jpg", "..\\lists\\t.csv"]
    found = listed(tmp_path, paths, root=str(images))
    assert [item.path for item in found.items] == ["img/000.jpg", "img/001.jpg", "odd\\name.jpg"]
    notes = [f.text for f in found.findings if f.code == "W333"]
    assert notes == ["backslashes taken as folder separators: 2 (img\\000.jpg ...)"]
    assert [f.path for f in found.findings if f.code == "E333"] == ["..\\lists\\t.csv", "img\\gone.jpg"]


@pytest.mark.parametrize("path", ["", " "])
def test_a_row_without_a_path(tmp_path, images, path):
    assert problems(listed(tmp_path, ["img/000.jpg", path], root=str(images)))[0] == ("E333", "")


def test_a_path_with_a_nul_byte(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"path": ["a\0.jpg"], "label": ["cat"]}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert [(f.code, f.text) for f in found.findings] == [("E333", "row 1: path with a NUL byte")]


def test_equal_numbers_are_separate_classes_and_noted(tmp_path):
    found = read(write(tmp_path, [(f"{n}.jpg", label) for n, label in enumerate(["1", "1.0", "01", "2"])]))
    (warning,) = found.findings
    assert (warning.code, warning.text) == ("W337", "equal as numbers, read as separate classes: '01', '1', '1.0'")
