import pytest

from effxfer.data.checks.audit import audit
from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from tests.data.corpus import class_folders, jpeg
from tests.data.folders import codes, labels, read


def test_domains_above_classes(tmp_path):
    root = class_folders(tmp_path, {f"{d}/{c}": 2 for d in ("photo", "sketch") for c in ("cat", "dog")})
    first, parent = read(root), read(root, class_from="parent")
    assert labels(first) == [("", "photo"), ("", "sketch")]
    assert codes(first) == ["W311"]
    assert 'class_from = "parent"' in first.findings[0].text
    assert labels(parent) == [("", "cat"), ("", "dog")]
    assert {item.domain for item in parent.items} == {"photo", "sketch"}
    assert not parent.findings


def test_empty_root(tmp_path):
    found = read(tmp_path)
    assert codes(found) == ["E310"]
    assert ".jpg" in found.findings[0].hint


def test_a_folder_of_texts_without_splits_is_told_how_they_are_named(tmp_path):
    (tmp_path / "reviews.txt").write_text("1 good\n")
    with pytest.raises(DataError, match="no images found") as caught:
        scan(DataSettings(source=str(tmp_path)))
    assert "train.txt" in caught.value.hint


def test_images_without_class_folders(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    found = read(tmp_path)
    assert codes(found) == ["E310", "W310"]
    assert "no class folders" in found.findings[0].text


def test_empty_class(tmp_path):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1, "owl": 0})
    found, allowed = read(root), read(root, allow_empty=True)
    assert [(f.code, f.severity, f.path) for f in found.findings] == [("E311", "error", "owl")]
    assert "allow_empty" in found.findings[0].hint
    assert [f.severity for f in allowed.findings] == ["note"]


def test_empty_class_below_a_domain(tmp_path):
    found = read(class_folders(tmp_path, {"photo/cat": 1, "photo/dog": 0, "art/dog": 1}), class_from="parent")
    assert [(f.code, f.path) for f in found.findings] == [("E311", "photo/dog")]


@pytest.mark.parametrize(
    ("folders", "above", "what"),
    [
        (("photos/cat", "photos/dog"), "photos", "2 classes lie in photos"),
        (("a/b/cat", "a/b/dog"), "a/b", "2 classes lie in a/b"),
        (("set/train/cat", "set/train/dog", "set/test/cat", "set/test/dog"), "set", "test, train lie in set"),
    ],
)
def test_one_folder_too_high(tmp_path, folders, above, what):
    root = class_folders(tmp_path / "data", dict.fromkeys(folders, 2))
    (root / "docs").mkdir()
    (root / "sample.jpg").write_bytes(jpeg())
    first = read(root).findings[0]
    assert (first.code, first.severity, first.hint) == ("E312", "error", f"did you mean {root / above}?")
    assert what in first.text
    with pytest.raises(DataError, match=what) as caught:
        scan(DataSettings(source=str(root)), cache=tmp_path / "cache")
    assert caught.value.code == "E312"
    assert audit(DataSettings(source=str(root)), cache=tmp_path / "cache").errors[0] == first
    assert not [f for f in read(root / above).findings if f.severity == "error"]


def test_a_domain_above_classes_is_not_too_high_where_classes_come_from_the_inner_folders(tmp_path):
    assert codes(read(class_folders(tmp_path, {"photo/cat": 1, "photo/dog": 1}), class_from="parent")) == []


@pytest.mark.parametrize("class_from", ["first", "parent", "path"])
def test_splits_inside_the_classes_are_not_mixed(tmp_path, class_from):
    root = class_folders(tmp_path, {f"{c}/{s}": 2 for c in ("cat", "dog") for s in ("train", "valid", "test")})
    first = read(root, class_from=class_from).findings[0]
    assert (first.code, first.severity) == ("E310", "error")
    assert "inside the classes: cat/test, cat/train, cat/valid, dog/test, dog/train and 1 more" in first.text
    assert "train/cat" in first.hint


def test_a_class_of_folders_called_train_is_no_split(tmp_path):
    assert codes(read(class_folders(tmp_path, {"bus/train": 2, "bus/other": 1, "dog/train": 2}))) == []


@pytest.mark.parametrize(
    ("name", "hint"), [("labels.csv", "did you mean {}?"), ("images.tar.gz", "unpack {} first"), ("x.zip", "unpack {}")]
)
def test_what_lies_beside_is_what_is_meant(tmp_path, name, hint):
    (tmp_path / name).touch()
    assert hint.format(tmp_path / name) in read(tmp_path).findings[0].hint


def test_a_table_beside_images_is_what_is_meant(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "labels.csv").touch()
    assert read(tmp_path).findings[0].hint == f"did you mean {tmp_path / 'labels.csv'}?"


def test_images_in_a_split_but_in_no_class(tmp_path):
    root = class_folders(tmp_path, {"train": 3, "test": 2, "train/.x": 0})
    (root / "train" / "empty").mkdir()
    assert read(root).findings[0].text == "5 images, but no class folders"


def test_a_sentence_stays_short_whatever_the_number_of_names(tmp_path):
    root = class_folders(tmp_path, {f"{d:03d}/{c:03d}": 1 for d in range(20) for c in range(20)})
    (warning,) = read(root).findings
    assert len(warning.text) < 300
    assert "000, 001, 002, 003, 004 and 15 more" in warning.text
