import os
from pathlib import Path

import pytest

from effxfer.data.sources.walk import MAX_DEPTH, walk
from effxfer.errors import DataError
from tests.data.corpus import class_folders
from tests.data.folders import codes, labels, read


def test_absent_root_and_a_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "x.txt").touch()
    with pytest.raises(DataError, match="is a file"):
        read(tmp_path / "x.txt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no regular file and no folder"):
        read(tmp_path / "pipe")


def test_hidden_folders_and_litter(tmp_path):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1, ".ipynb_checkpoints": 2, "cat/.thumbs": 1, "__MACOSX": 1})
    for name in ("Thumbs.db", ".DS_Store", "._000.jpg"):
        (root / "cat" / name).touch()
    found = read(root)
    assert len(found.items) == 2
    assert [(f.code, f.path) for f in found.findings] == [
        ("W314", ".ipynb_checkpoints"),
        ("W314", "__MACOSX"),
        ("W314", "cat/._000.jpg"),
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


@pytest.mark.parametrize(
    "name",
    [
        "lost+found", "System Volume Information", "$RECYCLE.BIN", ".Trash-1000", ".Spotlight-V100", ".fseventsd",
        ".TemporaryItems", "@eaDir", "#recycle", ".stfolder", ".stversions", ".dropbox.cache", ".sync", ".git", ".svn",
        "__MACOSX", ".ipynb_checkpoints", "@Recycle", "#snapshot",
    ],
)  # fmt: skip
@pytest.mark.parametrize("above", ["", "cat/"])
def test_folders_of_systems_and_synchronisers_are_never_opened(tmp_path, monkeypatch, name, above):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1, f"{above}{name}": 1})
    scandir = os.scandir

    def locked(folder):
        if Path(folder).name == name:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    found = read(root)
    assert [(f.code, f.path) for f in found.findings] == [("W314", f"{above}{name}")]
    assert labels(found) == [("", "cat"), ("", "dog")]


def test_deeper_than_calls_can_be(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 1, "dog": 1})
    deep = root.joinpath("cat", *["d"] * (MAX_DEPTH + 20))
    deep.mkdir(parents=True)
    found = walk(root)
    assert len(found.files) == 2
    assert [(f.code, f.severity, f.path.count("/")) for f in found.findings] == [("E315", "error", MAX_DEPTH)]
    assert f"more than {MAX_DEPTH} deep" in found.findings[0].text


def test_all_that_the_system_refuses_is_a_finding(tmp_path, monkeypatch):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1})
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("cat"):
            raise OSError(5, "Input/output error")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    (finding,) = (f for f in walk(root).findings if f.path == "cat")
    assert (finding.code, finding.text) == ("E319", "folder cannot be read (Input/output error)")


def test_a_root_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="Permission denied") as caught:
        walk(tmp_path)
    assert caught.value.code == "E319"


@pytest.mark.parametrize("root", ["/proc", "/proc/self", "/proc/self/fd", "/sys"])
def test_the_running_system_holds_no_images(root):
    with pytest.raises(DataError) as caught:
        walk(Path(root))
    assert caught.value.code == "E310"


def test_a_link_into_the_running_system_is_not_followed(tmp_path):
    root = class_folders(tmp_path, {"cat": 1, "dog": 1})
    (root / "cat" / "all").symlink_to("/proc")
    assert [(f.code, f.path) for f in walk(root).findings] == [("W314", "cat/all")]


def test_a_folder_of_the_running_system_is_not_entered(tmp_path, monkeypatch):
    """A link may lead to a folder in which it is mounted."""
    root = class_folders(tmp_path, {"cat": 1, "dog": 1, "dog/proc": 1})
    monkeypatch.setattr("effxfer.data.sources.walk._Walker.is_kernels", lambda _self, folder: folder.name == "proc")
    tree = walk(root)
    assert [(f.code, f.path) for f in tree.findings] == [("W314", "dog/proc")]
    assert len(tree.files) == 2


@pytest.mark.parametrize("above", ["..", "../..", "/"])
def test_a_link_to_what_lies_above_is_a_loop(tmp_path, above):
    """To the root of the disk, it would be all that is on it."""
    root = class_folders(tmp_path / "photos", {"cat": 2, "dog": 2})
    (root / "cat" / "up").symlink_to(root / above)
    found = read(root)
    assert labels(found) == [("", "cat"), ("", "dog")]
    assert [(f.code, f.path) for f in found.findings] == [("W315", "cat/up")]


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "X.TGZ", "x.7z"])
def test_a_packed_file_is_to_be_unpacked(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="is an archive") as caught:
        walk(tmp_path / name)
    assert "unpack it" in caught.value.hint


@pytest.mark.parametrize("name", ["a" * 300, "/".join(["a" * 200] * 30)])
def test_a_root_with_too_long_a_name(tmp_path, name):
    with pytest.raises(DataError, match="does not exist"):
        walk(tmp_path / name)
