import os
import time

import pytest

from effxfer.data.load import survey
from effxfer.data.settings import DataSettings
from effxfer.data.sources import file_hashes
from effxfer.data.sources.file_hashes import content_digests
from effxfer.errors import SettingsError
from effxfer.files import read_sealed, sha256
from effxfer.progress import show_through
from tests.data.corpus import class_folders


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(file_hashes, "MIN_AGE_NS", 0)
    root = tmp_path / "data"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_text(name)
    time.sleep(0.01)
    return root


def read_by(monkeypatch):
    seen = []

    digest = file_hashes._hash_file

    def counting(file, limit):
        seen.append(file.name)
        return digest(file, limit)

    monkeypatch.setattr(file_hashes, "_hash_file", counting)
    return seen


def test_unchanged_files_are_not_read_again(files, tmp_path, monkeypatch):
    seen = read_by(monkeypatch)
    first = content_digests(files, ["a", "b", "c"], tmp_path)
    assert sorted(seen) == ["a", "b", "c"]
    assert content_digests(files, ["a", "b", "c"], tmp_path) == first
    assert len(seen) == 3
    (files / "b").write_text("B")
    assert content_digests(files, ["a", "b", "c"], tmp_path).digests["b"] == sha256(files / "b")
    assert seen[3:] == ["b"]


def test_same_size_and_modification_time_do_not_hide_a_change(files, tmp_path):
    before = content_digests(files, ["a"], tmp_path).digests["a"]
    facts = (files / "a").stat()
    time.sleep(0.02)
    (files / "a").write_text("z")
    os.utime(files / "a", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert content_digests(files, ["a"], tmp_path).digests["a"] != before


def test_files_just_written_are_not_remembered(files, tmp_path, monkeypatch):
    monkeypatch.setattr(file_hashes, "MIN_AGE_NS", 10**12)
    seen = read_by(monkeypatch)
    content_digests(files, ["a"], tmp_path)
    content_digests(files, ["a"], tmp_path)
    assert seen == ["a", "a"]


def test_absent_files_are_failures(files, tmp_path):
    found = content_digests(files, ["a", "none"], tmp_path)
    assert list(found.digests) == ["a"]
    assert isinstance(found.failures["none"], FileNotFoundError)


def test_files_that_vanish_or_refuse_while_being_read(files, tmp_path, monkeypatch):
    def refuse(file, limit):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file_hashes, "open_regular", refuse)
    assert isinstance(content_digests(files, ["a"], tmp_path).failures["a"], PermissionError)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"v": 1}', '{"v": 1, "files": {"a": 3}}', '{"v": 99, "files": {}}']
)
def test_damaged_index_is_ignored(files, tmp_path, content):
    first = content_digests(files, ["a"], tmp_path)
    (file,) = (tmp_path / "index").iterdir()
    file.write_text(content)
    assert content_digests(files, ["a"], tmp_path) == first
    assert read_sealed(file)["files"].keys() == {"a"}


def test_a_digest_changed_in_the_index_is_found(files, tmp_path):
    first = content_digests(files, ["a"], tmp_path)
    (file,) = (tmp_path / "index").iterdir()
    file.write_text(file.read_text().replace(first.digests["a"], "0" * 64))
    assert content_digests(files, ["a"], tmp_path) == first


def test_where_nothing_can_be_written_the_process_remembers(files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    seen, said = read_by(monkeypatch), []
    with show_through(lambda *_: None, said.append):
        first = content_digests(files, ["a", "b"], tmp_path / "file")
        assert content_digests(files, ["a", "b"], tmp_path / "file") == first
    assert sorted(seen) == ["a", "b"]
    assert len(said) == 1
    assert "nothing is cached for the next run; set EFFXFER_CACHE" in said[0]


def test_large_files_are_digested_piece_by_piece(files, tmp_path, monkeypatch):
    small = content_digests(files, ["a"], tmp_path / "one")
    monkeypatch.setattr(file_hashes, "LARGE", 0)
    monkeypatch.setattr(file_hashes, "read_stream", None)
    assert content_digests(files, ["a"], tmp_path / "two") == small


def test_a_cache_inside_the_data_is_refused(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 4, "dog": 4})
    with pytest.raises(SettingsError, match="lies inside the data set") as caught:
        survey(DataSettings(source=str(root)), cache=root / "cache")
    assert caught.value.code == "E211"
    assert sorted(path.name for path in root.iterdir()) == ["cat", "dog"]
