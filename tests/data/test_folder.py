import os

import pytest

from effxfer.data.folder import read_folder, walk
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from tests.data.corpus import class_folders, jpeg


def read(root, **options):
    return read_folder(root, DataSettings(source=str(root), **options))


def codes(found):
    return sorted(finding.code for finding in found.findings)


def labels(found):
    return sorted({(item.split, item.label) for item in found.items})


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


def test_domains_above_classes(tmp_path):
    root = class_folders(tmp_path, {f"{d}/{c}": 2 for d in ("photo", "sketch") for c in ("cat", "dog")})
    first, parent = read(root), read(root, class_from="parent")
    assert labels(first) == [("", "photo"), ("", "sketch")]
    assert codes(first) == ["W311"]
    assert 'class_from = "parent"' in first.findings[0].text
    assert labels(parent) == [("", "cat"), ("", "dog")]
    assert {item.domain for item in parent.items} == {"photo", "sketch"}
    assert not parent.findings


def test_domains_within_splits(tmp_path):
    folders = {f"{s}/{d}/{c}": 1 for s in ("train", "test") for d in ("photo", "sketch") for c in ("cat", "dog")}
    found = read(class_folders(tmp_path, folders), class_from="parent")
    assert labels(found) == [("test", "cat"), ("test", "dog"), ("train", "cat"), ("train", "dog")]


def test_empty_root(tmp_path):
    found = read(tmp_path)
    assert codes(found) == ["E310"]
    assert ".jpg" in found.findings[0].hint


def test_absent_root_and_a_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "x.zip").touch()
    with pytest.raises(DataError, match="is a file"):
        read(tmp_path / "x.zip")


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


def test_hidden_folders_and_litter(tmp_path):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1, ".ipynb_checkpoints": 2, "cat/.thumbs": 1, "__MACOSX": 1})
    for name in ("Thumbs.db", ".DS_Store", "._000.jpg"):
        (root / "cat" / name).touch()
    found = read(root)
    assert len(found.items) == 2
    assert [(f.code, f.path) for f in found.findings] == [
        ("W314", ".ipynb_checkpoints"),
        ("W314", "__MACOSX"),
        ("W314", "cat/.thumbs"),
    ]


def test_symlink_loop_does_not_multiply_images(tmp_path):
    root = class_folders(tmp_path, {"cat": 2, "dog": 2})
    (root / "cat" / "again").symlink_to(root)
    (root / "loop").symlink_to(root / "loop")
    found = read(root)
    assert len(found.items) == 4
    assert codes(found) == ["W315", "W316"]


def test_alias_of_a_class_is_listed_once_under_its_real_name(tmp_path):
    root = class_folders(tmp_path, {"cat": 2, "dog": 2})
    (root / "a_cat").symlink_to(root / "cat")
    found = read(root)
    assert labels(found) == [("", "cat"), ("", "dog")]
    assert codes(found) == ["W315"]


def test_links_outside_and_dangling_links(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 1, "dog": 1})
    elsewhere = class_folders(tmp_path / "store", {"owl": 1})
    (root / "owl").symlink_to(elsewhere / "owl")
    (root / "cat" / "x.jpg").symlink_to(elsewhere / "owl" / "000.jpg")
    (root / "cat" / "gone.jpg").symlink_to(elsewhere / "gone.jpg")
    found = read(root)
    assert labels(found) == [("", "cat"), ("", "dog"), ("", "owl")]
    assert sorted((f.code, f.path) for f in found.findings) == [
        ("E316", "cat/gone.jpg"),
        ("W317", "cat/x.jpg"),
        ("W317", "owl"),
    ]


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
    assert labels(read(root)) == [("", "caf\ufffd"), ("", "dog")]


def test_decomposed_and_composed_names_are_one_class(tmp_path):
    found = read(class_folders(tmp_path, {"train/caf\u00e9": 1, "test/cafe\u0301": 1, "train/b": 1, "test/b": 1}))
    assert labels(found) == [("test", "b"), ("test", "caf\u00e9"), ("train", "b"), ("train", "caf\u00e9")]


def test_names_equal_but_for_case(tmp_path):
    found = read(class_folders(tmp_path, {"Dog": 1, "dog": 1}))
    assert codes(found) == ["W318"]
    assert "Dog, dog" in found.findings[0].text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission(tmp_path):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1})
    (root / "cat").chmod(0)
    assert "E319" in codes(read(root))
    (root / "cat").chmod(0o755)


def test_folder_that_scandir_refuses(tmp_path, monkeypatch):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1})
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert ("E319", "cat") in [(f.code, f.path) for f in read(root).findings]


def test_folder_called_like_an_image(tmp_path):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1})
    (root / "cat" / "x.jpg").mkdir()
    (root / "notes.txt").touch()
    assert [(f.code, f.severity, f.path) for f in read(root).findings] == [
        ("W319", "note", "cat/x.jpg"),
        ("W309", "note", "notes.txt"),
    ]


def test_walk_is_sorted(tmp_path):
    tree = walk(class_folders(tmp_path, {"b": 3, "a": 3}))
    assert tree.files == sorted(tree.files)
    assert tree.folders == [("a",), ("b",)]
