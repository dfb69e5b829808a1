import errno

import numpy as np
import pytest

from effxfer.data.decoded import store
from effxfer.data.decoded.store import Store, free_memory
from effxfer.errors import ResourceError


@pytest.fixture(params=["folder", "unnamed", "memory"])
def any_store(request, tmp_path, monkeypatch):
    if request.param == "memory":
        monkeypatch.setattr(store, "TemporaryFile", refuse)
    return Store(tmp_path if request.param == "folder" else None)


def refuse(*_args, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("keep", [[0, 1, 2, 3], [2, 3], [0, 3], []])
def test_what_is_kept_moves_to_the_front(any_store, keep):
    array = any_store.create("x", (4, 2), "float32")
    array[:] = np.arange(4)[:, None]
    any_store.keep_rows("x", np.array(keep, np.int64))
    found = any_store.read_only()["x"]
    assert found[:, 1].tolist() == keep
    assert not found.flags.writeable


def test_no_rows_at_all(any_store):
    assert any_store.create("x", (0, 2)).shape == (0, 2)


def test_room_is_reserved_before_anything_is_written(tmp_path, monkeypatch):
    """A full disk is an error of `create`, not a bus error of whoever fills the array."""
    asked = []

    def full(_handle, _start, size):
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Store(tmp_path).create("x", (5, 7))
    assert asked == [35]
    assert Store().create("x", (5, 7)).shape == (5, 7), "memory has room"


def test_no_room_anywhere_is_said_with_the_variable_that_helps(monkeypatch):
    monkeypatch.setattr(store, "TemporaryFile", refuse)
    monkeypatch.setattr(store, "free_memory", lambda: 69)
    Store().create("x", (34,))
    with pytest.raises(ResourceError, match="memory have no room") as caught:
        Store().create("x", (35,))
    assert "EFFXFER_CACHE" in caught.value.hint


@pytest.mark.parametrize(("text", "known"), [("MemTotal: 9 kB\nMemAvailable:   5 kB\n", True), ("nothing\n", False)])
def test_free_memory_is_what_the_kernel_says(tmp_path, monkeypatch, text, known):
    (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr(store, "MEMORY", tmp_path / "meminfo")
    assert (free_memory() == 5120) is known
    assert free_memory() > 0
