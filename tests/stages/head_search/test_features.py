import errno
import os
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from effxfer import progress
from effxfer.errors import ResourceError
from effxfer.net.taps import pool
from effxfer.stages.head_search.features import (
    compute_features,
    deepest_layer,
    megabytes,
    plan_features,
    position_sources,
)
from effxfer.stages.head_search.searched_tasks import searched_tasks
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.train.devices import pick_device
from tests import tiny

TAPS = ("stage1", "stage2", "out")


@pytest.fixture
def net(dense):
    return dense.net().eval()


@pytest.fixture
def task(net, data, tmp_path):
    return load_task(data, net.input, RunContext(out=tmp_path / "out"))


@pytest.fixture
def labels(net, task):
    return searched_tasks(net, task, None)[0]


def test_features_are_what_the_network_gives_and_are_computed_once(net, task, labels, tmp_path):
    plan = plan_features(net, TAPS, len(task.train) + len(task.val), grid=4, cache_mb=100)
    found = compute_features(net, task, plan, tmp_path / "features", pick_device("cpu"))
    with torch.no_grad():
        from effxfer.data.batches.augment import normalize

        outputs = net.outputs(normalize(torch.tensor(task.val.rows), net.input), TAPS)
    for tap in TAPS:
        np.testing.assert_allclose(found.val[tap], pool(outputs[tap]).numpy(), rtol=1e-4, atol=1e-5)
        assert isinstance(found.train_maps[tap], np.memmap)
        assert found.train_maps[tap].dtype == np.float16
        means = found.val_maps[tap].astype(np.float32).mean((2, 3))
        np.testing.assert_allclose(means, found.val[tap], rtol=5e-3, atol=5e-3)
    assert [found.train_maps[tap].shape[2] for tap in TAPS] == [4, 4, 4]
    net.head = None
    net.body = None
    again = compute_features(net, task, plan, tmp_path / "features", None)
    assert again.label(labels).digest() == found.label(labels).digest()


def test_the_room_they_take_is_told_before_and_kept_to(net, task, tmp_path):
    images = len(task.train) + len(task.val)
    whole = position_sources(net, TAPS)
    needed = megabytes(net, whole, images, 4)
    plan = plan_features(net, TAPS, images, grid=4, cache_mb=needed)
    assert (plan.grid, plan.notes) == (4, ())
    compute_features(net, task, plan, tmp_path / "features", pick_device("cpu"))
    files = (tmp_path / "features").rglob("whole-*.npy")
    assert sum(f.stat().st_size - 128 for f in files) == needed * 1e6
    coarser = plan_features(net, TAPS, images, grid=4, cache_mb=0.9 * needed)
    assert coarser.grid == 2
    assert "grid is 2, not 4" in coarser.notes[0]
    none = plan_features(net, TAPS, images, grid=4, cache_mb=0.01 * needed)
    assert none.maps == {}
    assert "no head pools" in none.notes[0]
    assert plan_features(net, TAPS, images, grid=4, cache_mb=0).maps == {}


def test_a_pooled_output_is_replaced_by_the_last_layer_with_positions():
    from effxfer.net.net import Net
    from effxfer.runtime.images.preprocess import Preprocess

    net = Net({"source": "timm:mobilenetv2_035", "args": {}}, Preprocess(size=64, mean=(0.5,) * 3, std=(0.5,) * 3))
    found = position_sources(net, ("blocks.2", "out"))
    assert found["blocks.2"] == "blocks.2"
    assert found["out"] != "out"
    outputs = net.eval().outputs(torch.rand(2, 3, 64, 64), (found["out"],))
    torch.testing.assert_close(pool(outputs[found["out"]]), outputs["out"])


def test_layers_are_ordered_by_when_they_are_done(net):
    assert deepest_layer(net, ["stage2", "stage1"]) == "stage2"
    assert deepest_layer(net, ["out", "stage1"]) == "out"
    assert tiny.CLASSES


def _another_type(file):
    np.save(file, np.load(file).astype(np.float64))


DAMAGES = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "of another type": _another_type,
    "a changed number": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"?"),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("name", ["train/mean-0.npy", "val/whole-1.npy", "index.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_features_that_are_damaged_are_computed_again(net, task, labels, tmp_path, name, damage):
    if name == "index.json" and damage == "of another type":
        pytest.skip("it has none")
    plan = plan_features(net, TAPS, len(task.train) + len(task.val), grid=4, cache_mb=100)
    whole = compute_features(net, task, plan, tmp_path / "features", pick_device("cpu")).label(labels).digest()
    DAMAGES[damage](tmp_path / "features" / name)
    said = []
    with progress.show_through(lambda label, total: nullcontext(lambda steps, text: None), said.append):
        again = compute_features(net, task, plan, tmp_path / "features", pick_device("cpu"))
    assert again.label(labels).digest() == whole
    assert said == [f"{tmp_path / 'features'} is damaged: features are computed again"]


def test_a_full_disk_is_no_bus_error(net, task, tmp_path, monkeypatch):
    def full(_handle, _start, _size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    plan = plan_features(net, TAPS, len(task.train) + len(task.val), grid=4, cache_mb=100)
    with pytest.raises(ResourceError, match="No space left on device"):
        compute_features(net, task, plan, tmp_path / "features", pick_device("cpu"))
    assert not (tmp_path / "features").exists()
