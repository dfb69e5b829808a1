import json
import shutil

import numpy as np
import pytest

import effxfer
from effxfer.deploy.decisions.wilson import wilson
from effxfer.errors import SettingsError
from effxfer.stages.deliver.transfer_report import TITLE
from tests import tiny


@pytest.fixture(scope="module")
def chain(tmp_path_factory, dense, exported, data):
    small = tiny.stage("prune channels", dense, tmp_path_factory.mktemp("chain") / "small", data)
    return [dense.path, small.path, exported.path]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same classes, drawn anew."""
    return tiny.write_images(tmp_path_factory.mktemp("other") / "shapes", per_class=6, seed=8)


@pytest.fixture(scope="module")
def new(tmp_path_factory, other):
    root = tmp_path_factory.mktemp("new") / "more"
    shutil.copytree(other, root)
    for folder in list(root.iterdir()):
        folder.rename(root / f"more {folder.name}")
    return root


def test_every_model_of_a_chain_is_measured_where_it_transfers(chain, other):
    report = effxfer.transfer_report(chain, target=other)
    assert [row["model"] for row in report.report.tables[0].rows] == ["dense", "small", "onnx fp32"]
    for name in ("dense", "small", "onnx fp32"):
        share, worst = report[f"accuracy/test/{name}"], report[f"worst class/test/{name}"]
        assert share.low <= share.value <= share.high
        assert worst.value <= share.value
        assert worst.of.startswith("images of ")
        assert report[f"accuracy/target/{name}"].n == 3, "the test split of the target"
    # The file is the network.
    assert report["accuracy/test/onnx fp32/drop"].value == 0
    drop = report["accuracy/test/dense"].value - report["accuracy/test/small"].value
    assert report["accuracy/test/small/drop"].value == pytest.approx(drop)
    assert report.get("accuracy/test/dense/drop") is None
    assert {curve.title for curve in report.report.curves} == {TITLE}
    assert all(set(curve.labels) == {"dense", "small", "onnx fp32"} for curve in report.report.curves)


def test_new_classes_are_measured_by_episodes_on_networks_and_on_files(chain, new):
    report = effxfer.transfer_report(chain, target=new)
    first, file = (report[f"accuracy/target/{name} 3-way 1-shot"] for name in ("dense", "onnx fp32"))
    assert first.n == 600
    assert file.value == pytest.approx(first.value, abs=0.1), "episodes are the same, and features too"


def test_the_result_is_kept_by_its_models_and_data(chain, other, tmp_path):
    out = tmp_path / "out"
    effxfer.transfer_report(chain[:2], out=out)
    first = json.loads((out / "manifest.json").read_text())
    assert first["stage"] == "transfer_report"
    effxfer.transfer_report(chain[:2], out=out)
    assert json.loads((out / "manifest.json").read_text()) == first
    with pytest.raises(SettingsError):
        effxfer.transfer_report(chain[:2], target=other, out=out)


def test_without_a_target_a_note_says_what_is_missing(chain):
    report = effxfer.transfer_report(chain[:1])
    assert any("no target" in note for note in report.report.notes)


def test_models_of_other_classes_are_refused(chain, folder, tmp_path):
    two = tmp_path / "two"
    shutil.copytree(folder, two)
    shutil.rmtree(two / "red")
    other = tiny.finetune(tmp_path / "other", tiny.data_of(two))
    with pytest.raises(SettingsError, match="classes"):
        effxfer.transfer_report([chain[0], other.path])


def test_wilsons_interval_holds_its_share_and_narrows():
    for hits, count in ((0, 3), (3, 3), (5, 9), (50, 90)):
        low, high = wilson(hits, count, 1.96)
        assert 0 <= low <= 100 * hits / count <= high <= 100
    assert np.diff(wilson(50, 90, 1.96)) < np.diff(wilson(5, 9, 1.96))
