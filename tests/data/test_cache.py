import json

import numpy as np
import pytest

from effxfer.data import cache


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
