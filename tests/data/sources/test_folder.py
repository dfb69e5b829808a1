import os

import pytest

from tests.data.corpus import class_folders, jpeg
from tests.data.folders import codes, labels, read


def test_class_folders(tmp_path):
    found = read(class_folders(tmp_path, {"cat": 2, "dog": 3}))
    assert [item.path for item in found.items] == [
        "cat/000.jpg", "cat/001.jpg", "dog/000.jpg", "dog/001.jpg", "dog/002.jpg",
    ]  # fmt: skip
    assert labels(found) == [("", "cat"), ("", "dog")]
    assert not found.findings


@pytest.mark.parametrize(
    ("val", "test"), [("val", "test"), ("valid", "testing"), ("validation", "Test"), ("dev", "test")]
)
def test_split_folders_in_all_spellings(tmp_path, val, test):
    found = read(class_folders(tmp_path, {f"{s}/{c}": 1 for s in ("train", val, test) for c in "ab"}))
    assert labels(found) == [(s, c) for s in ("test", "train", "val") for c in "ab"]


def test_a_class_called_train_is_a_class(tmp_path):
    found = read(class_folders(tmp_path, {"train": 2, "bus": 2}))
    assert labels(found) == [("", "bus"), ("", "train")]


def test_folders_beside_splits_are_left_out_with_a_warning(tmp_path):
    found = read(class_folders(tmp_path, {"train/a": 1, "train/b": 1, "unlabeled/x": 1}))
    assert labels(found) == [("train", "a"), ("train", "b")]
    assert codes(found) == ["W310"]


def test_deeper_folders_belong_to_the_first_one(tmp_path):
    found = read(class_folders(tmp_path, {"cat/2023/may": 1, "cat": 1, "dog/x": 1}))
    assert labels(found) == [("", "cat"), ("", "dog")]
    assert len(found.items) == 3


def test_domains_within_splits(tmp_path):
    folders = {f"{s}/{d}/{c}": 1 for s in ("train", "test") for d in ("photo", "sketch") for c in ("cat", "dog")}
    found = read(class_folders(tmp_path, folders), class_from="parent")
    assert labels(found) == [("test", "cat"), ("test", "dog"), ("train", "cat"), ("train", "dog")]


@pytest.mark.parametrize("name", ["weiße Katze", "猫", "with space", "new\nline", "quote'\"", "percent%20", "#hash"])
def test_any_name_works(tmp_path, name):
    root = class_folders(tmp_path, {name: 1, "dog": 1})
    (root / name / f"{name}.jpg").write_bytes(jpeg())
    found = read(root)
    assert labels(found) == sorted([("", "dog"), ("", name)])
    assert not found.findings


def test_names_of_undecodable_bytes_become_readable_labels(tmp_path):
    root = class_folders(tmp_path, {"dog": 1})
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    (root / os.fsdecode(b"caf\xe9") / "a.jpg").write_bytes(jpeg())
    found = read(root)
    assert labels(found) == [("", "caf\ufffd"), ("", "dog")]
    assert [(f.code, f.severity) for f in found.findings] == [("W318", "warning")]


def test_names_of_undecodable_bytes_do_not_become_one_class(tmp_path):
    for name in (b"caf\xe9", b"caf\xe8"):
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "a.jpg").write_bytes(jpeg())
    (finding,) = read(tmp_path).findings
    assert (finding.code, finding.severity) == ("E318", "error")
    assert "2 folders whose names are not UTF-8 would all become the class 'caf\ufffd'" in finding.text


def test_decomposed_and_composed_names_are_one_class(tmp_path):
    found = read(class_folders(tmp_path, {"train/caf\u00e9": 1, "test/cafe\u0301": 1, "train/b": 1, "test/b": 1}))
    assert labels(found) == [("test", "b"), ("test", "caf\u00e9"), ("train", "b"), ("train", "caf\u00e9")]


def test_names_equal_but_for_case(tmp_path):
    found = read(class_folders(tmp_path, {"Dog": 1, "dog": 1}))
    assert codes(found) == ["W318"]
    assert "Dog, dog" in found.findings[0].text


def test_without_labels_images_lie_at_any_depth(tmp_path):
    found = read(class_folders(tmp_path, {"": 2, "cat": 1, "a/b/c": 1}), labels="none")
    assert labels(found) == [("", ""), ("", "a"), ("", "cat")]
    assert not found.findings


def test_without_labels_splits_may_hold_the_images_themselves(tmp_path):
    found = read(class_folders(tmp_path, {"train": 2, "test": 1}), labels="none")
    assert labels(found) == [("test", ""), ("train", "")]
    inside = tmp_path / "inside"
    assert codes(read(class_folders(inside, {"cat/train": 1, "cat/test": 1}), labels="none")) == ["E310"]


def test_without_labels_a_folder_without_images_is_still_an_error(tmp_path):
    tmp_path.joinpath("cat").mkdir()
    assert codes(read(tmp_path, labels="none")) == ["E310"]
