import errno
import os
import shutil

import numpy as np
import pytest

from effxfer.data.decoded import cache, store
from effxfer.errors import SettingsError
from effxfer.files import read_sealed, write_sealed
from effxfer.process.folder_lock import lock_folder
from effxfer.progress import show_through


def builder(rows=6, keep=None):
    def build(store):
        array = store.create("x", (rows, 2, 3))
        array[:] = np.arange(rows)[:, None, None]
        store.keep_rows("x", np.arange(rows) if keep is None else np.array(keep, np.int64))
        return {"said": "hello"}

    return build


def test_built_once_and_read_back(tmp_path):
    entry = cache.open_or_build(tmp_path / "k", 100, builder())
    again = cache.open_or_build(tmp_path / "k", 100, lambda _: pytest.fail("built twice"))
    assert entry.facts == again.facts == {"said": "hello"}
    np.testing.assert_array_equal(again.arrays["x"][:, 0, 0], np.arange(6))


@pytest.mark.parametrize("keep", [[0, 1], [2, 4, 5], [5], []])
def test_rows_left_out(tmp_path, keep):
    entry = cache.open_or_build(tmp_path / "k", 100, builder(keep=keep))
    assert entry.arrays["x"].shape == (len(keep), 2, 3)
    assert entry.arrays["x"][:, 0, 0].tolist() == keep


def test_no_rows_at_all(tmp_path):
    assert cache.open_or_build(tmp_path / "k", 100, builder(rows=0)).arrays["x"].shape == (0, 2, 3)


def test_failed_build_leaves_nothing(tmp_path):
    def fail(store):
        store.create("x", (3, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.open_or_build(tmp_path / "k", 100, fail)
    assert not (tmp_path / "k").exists()


def test_what_a_killed_builder_left_is_swept(tmp_path):
    left = tmp_path / "k" / ".effxfer-partial-999999999-arrays"
    left.mkdir(parents=True)
    cache.open_or_build(tmp_path / "k", 100, builder())
    assert not left.exists()


def test_another_format_is_redone(tmp_path):
    cache.open_or_build(tmp_path / "k", 100, builder())
    file = tmp_path / "k" / "arrays" / "manifest.json"
    write_sealed(file, read_sealed(file) | {"format": 0})
    assert cache.read_entry(tmp_path / "k" / "arrays") is None
    assert len(cache.open_or_build(tmp_path / "k", 100, builder(rows=4)).arrays["x"]) == 4


SIZE = 6 * 2 * 3


def fill(tmp_path, *names):
    """Entries that were used one after the other, long ago."""
    for age, name in enumerate(names):
        cache.open_or_build(tmp_path / name, SIZE, builder())
        os.utime(tmp_path / name, (1e9 + age, 1e9 + age))


def kept(tmp_path):
    return sorted(entry.name for entry in tmp_path.iterdir() if (entry / "arrays").is_dir())


def room(monkeypatch, tmp_path, others):
    """Let the cache hold so many of its entries, all alike, and one more."""
    one = sum(file.stat().st_size for file in (tmp_path / "a" / "arrays").iterdir())
    monkeypatch.setenv("EFFXFER_CACHE_GB", str((others * one + SIZE + one / 2) / 1e9))


def test_what_was_not_used_for_longest_leaves(tmp_path, monkeypatch):
    fill(tmp_path, "a", "b", "c")
    room(monkeypatch, tmp_path, 1)
    entry = cache.open_or_build(tmp_path / "d", SIZE, builder())
    assert entry.facts == {"said": "hello"}
    assert kept(tmp_path) == ["c", "d"]


def test_a_use_is_a_reason_to_stay(tmp_path, monkeypatch):
    fill(tmp_path, "a", "b", "c")
    cache.open_or_build(tmp_path / "a", SIZE, lambda _: pytest.fail("built twice"))
    room(monkeypatch, tmp_path, 1)
    cache.open_or_build(tmp_path / "d", SIZE, builder())
    assert kept(tmp_path) == ["a", "d"]


def test_what_is_open_can_be_read_to_the_end(tmp_path, monkeypatch):
    fill(tmp_path, "a")
    entry = cache.open_or_build(tmp_path / "a", SIZE, builder())
    room(monkeypatch, tmp_path, 0)
    cache.open_or_build(tmp_path / "b", SIZE, builder())
    assert kept(tmp_path) == ["b"]
    np.testing.assert_array_equal(entry.arrays["x"][:, 0, 0], np.arange(6))


def test_what_another_process_builds_stays(tmp_path, monkeypatch):
    fill(tmp_path, "a", "b")
    room(monkeypatch, tmp_path, 0)
    with lock_folder(tmp_path / "a"):
        cache.open_or_build(tmp_path / "c", SIZE, builder())
    assert kept(tmp_path) == ["a", "c"]


def test_what_another_process_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    fill(tmp_path, "a", "b")
    room(monkeypatch, tmp_path, 0)
    plain = cache.lock_folder

    def removed(entry):
        shutil.rmtree(tmp_path / "b" / "arrays", ignore_errors=True)
        return plain(entry)

    monkeypatch.setattr(cache, "lock_folder", removed)
    cache.open_or_build(tmp_path / "c", SIZE, builder())
    assert kept(tmp_path) == ["c"]


def test_a_file_beside_the_entries_is_left_alone(tmp_path, monkeypatch):
    fill(tmp_path, "a")
    (tmp_path / "notes.txt").write_text("mine")
    room(monkeypatch, tmp_path, 0)
    cache.open_or_build(tmp_path / "b", SIZE, builder())
    assert kept(tmp_path) == ["b"]
    assert (tmp_path / "notes.txt").exists()


def test_what_a_link_leads_to_is_nobodys_entry(tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "arrays").mkdir(parents=True)
    (tmp_path / "elsewhere" / "arrays" / "thesis.txt").write_text("mine")
    (tmp_path / "pixels").mkdir()
    (tmp_path / "pixels" / "b").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("EFFXFER_CACHE_GB", "0")
    cache.open_or_build(tmp_path / "pixels" / "a", SIZE, builder())
    assert [file.name for file in (tmp_path / "elsewhere").rglob("*")] == ["arrays", "thesis.txt"]


def test_a_full_disk_is_emptied_of_old_entries_first(tmp_path, monkeypatch):
    fill(tmp_path, "a", "b")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=0 if (tmp_path / "a" / "arrays").exists() else 10**9)
    )
    cache.open_or_build(tmp_path / "c", SIZE, builder())
    assert kept(tmp_path) == ["b", "c"]


@pytest.mark.parametrize("told", ["many", "-1", "nan"])
def test_a_limit_is_a_number(tmp_path, monkeypatch, told):
    monkeypatch.setenv("EFFXFER_CACHE_GB", told)
    with pytest.raises(SettingsError, match="EFFXFER_CACHE_GB"):
        cache.open_or_build(tmp_path / "a", SIZE, builder())


def altered(file, old, new):
    """Change letters of a file, and give it back the time stamp that it had."""
    facts = file.stat()
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new, 1))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize(("old", "new"), [(b"hello", b"hallo"), (b'"row"', b'"roe"'), (b'"said"', b'"said "')])
def test_a_letter_changed_in_the_manifest_is_found(tmp_path, old, new):
    cache.open_or_build(tmp_path / "k", 100, builder())
    altered(tmp_path / "k" / "arrays" / "manifest.json", old, new)
    again = cache.open_or_build(tmp_path / "k", 100, builder(rows=4))
    assert again.facts == {"said": "hello"}
    assert len(again.arrays["x"]) == 4, "built again"


def test_a_pixel_changed_with_its_time_stamp_kept_is_found(tmp_path):
    cache.open_or_build(tmp_path / "k", 100, builder())
    altered(tmp_path / "k" / "arrays" / "x.uint8", b"\x05", b"\x06")
    assert cache.open_or_build(tmp_path / "k", 100, builder()).arrays["x"][5, 0, 0] == 5


def test_an_entry_that_does_not_fit_is_built_again(tmp_path):
    cache.open_or_build(tmp_path / "k", 100, builder(rows=3))
    entry = cache.open_or_build(tmp_path / "k", 100, builder(rows=4), lambda entry: len(entry.arrays["x"]) == 4)
    assert len(entry.arrays["x"]) == 4


def test_a_copied_entry_is_digested_once(tmp_path, monkeypatch):
    cache.open_or_build(tmp_path / "k", 100, builder())
    shutil.copytree(tmp_path / "k", tmp_path / "copy", copy_function=shutil.copyfile)
    read = []
    monkeypatch.setattr(cache, "sha256", lambda file, whole=cache.sha256: read.append(file.name) or whole(file))
    for _ in range(2):
        cache.open_or_build(tmp_path / "copy", 100, lambda _: pytest.fail("built twice"))
    assert read == ["x.uint8"]


def no_room(*_args, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("memory", [False, True])
def test_where_nothing_can_be_written_the_process_remembers(tmp_path, monkeypatch, memory):
    """A file in the place of a folder stands for a read-only home, another user's cache and a full disk."""
    (tmp_path / "file").write_text("in the way")
    if memory:
        monkeypatch.setattr(store, "TemporaryFile", no_room)
    said, built = [], []

    def build(made):
        built.append(made)
        return builder()(made)

    with show_through(lambda *_: None, said.append):
        entries = [cache.open_or_build(tmp_path / "file" / "pixels" / key, 100, build) for key in "aabab"]
    assert len(built) == 2
    assert {tuple(entry.arrays["x"][:, 0, 0]) for entry in entries} == {(0, 1, 2, 3, 4, 5)}
    assert not entries[0].arrays["x"].flags.writeable
    assert len(said) == 1
    assert "set EFFXFER_CACHE to a writable folder" in said[0]


def test_a_disk_that_fills_up_while_an_entry_is_built(tmp_path, monkeypatch):
    def full(*_args):
        monkeypatch.undo()
        no_room()

    monkeypatch.setattr(store.os, "posix_fallocate", full)
    entry = cache.open_or_build(tmp_path / "pixels" / "k", 100, builder())
    assert entry.arrays["x"][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert not (tmp_path / "pixels" / "k" / "arrays").exists()
