"""What an output may be, said before anything is read."""

import os
from pathlib import Path

import pytest

from effxfer.errors import ResourceError, SettingsError
from effxfer.stages.runner import output_dir
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.output_dir import (
    LONGEST_NAME,
    check_directory,
    check_file,
    check_file_in,
    check_folder,
    check_writable,
)  # fmt: skip


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")


@pytest.mark.parametrize("out", ["new", "new/below/it", "folder", "folder/new", "link", "link/new", "a" * LONGEST_NAME])
def test_these_can_become_model_directories(tmp_path, out):
    check_directory(tmp_path / out)
    check_writable(tmp_path / out)
    assert not (tmp_path / "new").exists(), "a look makes nothing"


REFUSED = {
    "file": "is not a directory",
    "file/below": "lies below .*file, which is a file",
    "nowhere": "is a link that leads nowhere",
    "circle": "is a link that leads nowhere",
    "a" * (LONGEST_NAME + 1): f"name of {LONGEST_NAME + 1} letters",
    "a" * 250: "name of 250 letters",
    "a" * 300: "name of 300 letters",
    "é" * 150: "name of 150 letters",
    "a" * 300 + "/below": "name of 300 letters",
    "/".join(["a" * 200] * 18): "a path too long",
    "/": "is the root",
    "/proc/x": "place of the system",
    "/proc/self/fd/x": "place of the system",
    "/dev/null": "place of the system",
    "/dev/x": "place of the system",
    "/sys/x/y": "place of the system",
}


@pytest.mark.parametrize(("out", "problem"), REFUSED.items(), ids=[out[:24] for out in REFUSED])
@pytest.mark.parametrize("check", [check_directory, check_folder, lambda out: check_file_in(out, "a.csv")])
def test_these_cannot(tmp_path, out, problem, check):
    with pytest.raises(SettingsError, match=problem) as caught:
        check(tmp_path / out)
    assert caught.value.code == "E211"
    assert caught.value.hint


def test_a_model_directory_is_not_the_one_in_which_somebody_stands(tmp_path):
    for out, name in [(tmp_path, "your home directory"), (tmp_path / "here", "the current directory")]:
        with pytest.raises(SettingsError, match=f"is {name}"):
            check_directory(out)
        check_folder(out)


def test_a_place_in_memory_is_a_place():
    if os.path.isdir("/dev/shm"):  # noqa: PTH112
        check_directory(output_dir.Path("/dev/shm/effxfer-new"))


def test_a_file_is_a_file(tmp_path):
    check_file(tmp_path / "file")
    check_file(tmp_path / "new" / "a.csv")
    os.mkfifo(tmp_path / "pipe")
    for out, problem in [("folder", "is a directory"), ("pipe", "no regular file"), ("file/a.csv", "lies below")]:
        with pytest.raises(SettingsError, match=problem):
            check_file(tmp_path / out)


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "folder")
    check_writable(tmp_path / "folder")
    with pytest.raises(ResourceError, match=r"folder cannot be written"):
        check_writable(tmp_path / "folder" / "new" / "below")


def test_a_link_to_a_folder_is_followed(tmp_path):
    assert RunContext(out=tmp_path / "link").out == (tmp_path / "folder").resolve()
    assert RunContext(out=tmp_path / "new").out == tmp_path / "new"
    assert RunContext(out=tmp_path / ("a" * 300)).out == tmp_path / ("a" * 300)


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/stderr", "/dev/fd/1"])
def test_a_link_of_the_system_is_never_replaced_by_a_file(out):
    """`/dev/stdout` leads to a regular file where the output is kept in one."""
    with pytest.raises(SettingsError) as caught:
        check_file(Path(out))
    assert caught.value.code == "E211"
