"""Several data tables as the tasks of one network, from their files to a file that answers all."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from effxfer.errors import DataError, SettingsError
from effxfer.runtime.predict import predict_files
from tests import tiny
from tests.stages.train.multi_task.killing import killed_after

OPTIONS = {**tiny.PLAIN, "controls": "none", "weighting": "cagrad", "table_balance": 1.0}
FIT = {"epochs": 2, "lr": 0.01, "warmup": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return [
        tiny.data_of(tiny.write_images(folder / "photo")),
        tiny.data_of(tiny.write_images(folder / "sketch", per_class=12, seed=5)),
    ]


@pytest.fixture(scope="module")
def network(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("net") / "net"
    return tiny.finetune(out, data, strategy="multi_task", options=OPTIONS, fit=FIT)


def test_each_table_is_a_task_with_splits_and_metrics_of_its_own(network):
    report = network.manifest.report
    assert report["accuracy/val/photo"].n == 12
    assert report["accuracy/val/sketch"].n == 9
    assert report["score/val"].value == np.mean([report[f"accuracy/val/{name}"].value for name in ("photo", "sketch")])
    assert [each["name"] for each in network.manifest.data] == ["photo", "sketch"]


@pytest.mark.slow
def test_a_file_is_exported_from_the_recorded_tables_and_answers_both(network, data, tmp_path):
    artifact = tiny.stage("export", network, tmp_path / "onnx", None, int8=False)
    report = artifact.manifest.report
    assert report["accuracy/val/sketch/fp32"].value == network.manifest.report["accuracy/val/sketch"].value
    image = min(Path(data[0].source).rglob("red/*.png"))
    (row,) = predict_files(tmp_path / "onnx" / "model.onnx", [image])
    assert list(row["tasks"]) == ["photo", "sketch"]


def test_a_run_that_was_killed_goes_on_to_equal_bytes(network, data, tmp_path):
    out = tmp_path / "net"
    options = {"strategy": "multi_task", "options": OPTIONS, "fit": FIT}
    with killed_after(10):
        tiny.finetune(out, data, **options)
    tiny.finetune(out, data, **options)
    assert (out / "weights.safetensors").read_bytes() == (network.path / "weights.safetensors").read_bytes()


def test_an_image_of_another_split_of_another_table_is_a_leak(data, tmp_path):
    images = sorted(Path(data[0].source).rglob("*.*"))
    for number, file in enumerate(images):
        split = ("train", "train", "val", "test")[number % 4]
        (tmp_path / "cut" / split / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "cut" / split / file.parent.name / file.name)
    cut = data[0].model_copy(update={"source": str(tmp_path / "cut")})
    options = {"strategy": "multi_task", "options": OPTIONS, "fit": {**FIT, "epochs": 0}}
    with pytest.raises(DataError, match=r"of another task and in .* of this one") as caught:
        tiny.finetune(tmp_path / "out", [data[0], cut], **options)
    assert caught.value.code == "E320"
    # The other way round the second table is split like the first.
    net = tiny.finetune(tmp_path / "out", [cut, data[0]], **options)
    assert net.manifest.report["accuracy/val/cut"].n == net.manifest.report["accuracy/val/photo"].n == 15


def test_a_balance_of_tables_needs_tables(tmp_path):
    with pytest.raises(SettingsError, match="table_balance is for several data tables"):
        tiny.finetune(tmp_path / "out", tiny.two_tasks(tmp_path), strategy="multi_task", options=OPTIONS, fit=FIT)


def test_strategies_of_one_task_are_refused_by_name(data, tmp_path):
    with pytest.raises(SettingsError, match=r"'probe' learns labels of .* the data hold kind 'tasks'"):
        tiny.finetune(tmp_path / "out", data, strategy="probe", options={"batch": 8})
    with pytest.raises(SettingsError, match="'multi_task' learns labels of kind tasks") as caught:
        tiny.finetune(tmp_path / "out", data[0], strategy="multi_task", options=OPTIONS)
    assert "several `data`" in caught.value.hint
