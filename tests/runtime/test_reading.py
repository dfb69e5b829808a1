import os
import socket
from pathlib import Path

import pytest

from effxfer.runtime.reading import TooLargeError, UnfitFileError, open_regular, read_regular


@pytest.fixture(params=["pipe", "socket", "device", "folder"])
def special(request, tmp_path):
    """A path at which no regular file lies, and what it is called."""
    place = tmp_path / "a.jpg"
    if request.param == "pipe":
        os.mkfifo(place)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(place))
    elif request.param == "device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    return place, request.param


def test_only_regular_files_are_opened(special):
    place, name = special
    with pytest.raises(UnfitFileError, match=rf"it is a (named )?{name}, no regular file"):
        open_regular(place)


def test_a_link_to_a_pipe_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.jpg").symlink_to("pipe")
    with pytest.raises(UnfitFileError, match="a named pipe"):
        read_regular(tmp_path / "a.jpg", 10)


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as stream:
        stream.truncate(3_000_000_000)
    with pytest.raises(TooLargeError, match="3000 MB is above the limit of 256 MB"):
        read_regular(tmp_path / "a.jpg", 256_000_000)


@pytest.mark.parametrize("size", [0, 1, 10])
def test_up_to_the_limit_all_is_read(tmp_path, size):
    (tmp_path / "a").write_bytes(b"x" * size)
    assert read_regular(tmp_path / "a", 10) == b"x" * size


def test_a_file_of_the_system_that_says_that_it_is_empty_is_read_up_to_the_limit():
    assert read_regular("/proc/self/cmdline", 10**6)
    with pytest.raises(TooLargeError):
        read_regular("/proc/self/cmdline", 3)


def test_absent_files_raise_as_usual(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "a", 10)


def test_no_descriptor_is_left_open(special):
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(UnfitFileError):
        open_regular(special[0])
    assert len([*Path("/proc/self/fd").iterdir()]) == before
