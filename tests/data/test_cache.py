import json
import os
import shutil

import numpy as np
import pytest

from effxfer.data import cache
from effxfer.errors import SettingsError
from effxfer.files import locked


def builder(rows=6, keep=None):
    def build(scratch):
        array = cache.create(scratch, "x", (rows, 2, 3))
        array[:] = np.arange(rows)[:, None, None]
        cache.keep_rows(array, np.arange(rows) if keep is None else np.array(keep, np.int64), scratch, "x")
        return {"rows": {"x": [2, 3]}, "said": "hello"}

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
    def fail(scratch):
        cache.create(scratch, "x", (3, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.open_or_build(tmp_path / "k", 100, fail)
    assert [path.name for path in (tmp_path / "k").iterdir() if not path.name.startswith(".lock")] == []


def test_what_a_killed_builder_left_is_swept(tmp_path):
    left = tmp_path / "k" / ".effxfer-partial-999999999-arrays"
    left.mkdir(parents=True)
    cache.open_or_build(tmp_path / "k", 100, builder())
    assert not left.exists()


def test_another_format_is_redone(tmp_path):
    cache.open_or_build(tmp_path / "k", 100, builder())
    file = tmp_path / "k" / "arrays" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 0}))
    assert cache.read(tmp_path / "k" / "arrays") is None
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
    with locked(tmp_path / "a"):
        cache.open_or_build(tmp_path / "c", SIZE, builder())
    assert kept(tmp_path) == ["a", "c"]


def test_what_another_process_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    fill(tmp_path, "a", "b")
    room(monkeypatch, tmp_path, 0)
    plain = cache.locked

    def removed(entry):
        shutil.rmtree(tmp_path / "b" / "arrays", ignore_errors=True)
        return plain(entry)

    monkeypatch.setattr(cache, "locked", removed)
    cache.open_or_build(tmp_path / "c", SIZE, builder())
    assert kept(tmp_path) == ["c"]


def test_a_file_beside_the_entries_is_left_alone(tmp_path, monkeypatch):
    fill(tmp_path, "a")
    (tmp_path / "notes.txt").write_text("mine")
    room(monkeypatch, tmp_path, 0)
    cache.open_or_build(tmp_path / "b", SIZE, builder())
    assert kept(tmp_path) == ["b"]
    assert (tmp_path / "notes.txt").exists()


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
