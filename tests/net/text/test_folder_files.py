import os

import pytest

from effxfer.errors import ModelFileError
from effxfer.net.text.folder_files import read_json, read_optional, read_table


def refused(file, words, read=read_json):
    with pytest.raises(ModelFileError) as error:
        read(file)
    assert error.value.code == "E434"
    assert words in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\xff", "{'a': 1}"])
def test_a_file_that_is_no_json_is_refused(tmp_path, content):
    file = tmp_path / "config.json"
    file.write_bytes(content.encode("latin-1"))
    refused(file, "cannot be read")


def test_a_large_file_is_refused_unread(tmp_path):
    file = tmp_path / "config.json"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    refused(file, "config.json cannot be read")


def test_a_pipe_a_device_and_a_folder_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "a named pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    refused(tmp_path / "link", "a device")
    refused(tmp_path, "a folder")


def test_what_a_link_leads_to_is_not_told(tmp_path):
    (tmp_path / "secret").write_text("password")
    (tmp_path / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFileError) as error:
        read_json(tmp_path / "config.json")
    assert "password" not in str(error.value)


def test_only_an_object_is_a_table(tmp_path):
    file = tmp_path / "config.json"
    file.write_text("[1]")
    refused(file, "holds list, not an object", read_table)


def test_an_absent_file_is_an_empty_table_where_it_may_be_absent(tmp_path):
    assert read_optional(tmp_path / "config.json") == {}
    refused(tmp_path / "config.json", "No such file", read_table)
