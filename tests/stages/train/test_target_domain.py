"""From a source to where the network is to work: by the command line's way, to an exported file."""

import shutil

import numpy as np
import onnx
import pytest

from effxfer.artifact import Artifact
from effxfer.data.settings import DataSettings
from effxfer.deploy.export.few_shot.prototypes import check_prototypes, from_prototypes
from effxfer.errors import GateError, SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.few_shot.rejection import read_rejection
from effxfer.runtime.model import Model, ModelError
from effxfer.settings import build
from effxfer.stages.runner.tasks import data_for
from tests import tiny
from tests.contracts.test_stages import adapted as adapted_by

CONV = BackboneSettings(source="effxfer.net.conv4:conv4", args={"width": 16}, pretrained=False, size=16)
EPISODES = {"way": 3, "query": 3, "episodes": 20, "augment": {"crop": "none", "flip": False}}


@pytest.fixture(scope="module")
def domains(folder, tmp_path_factory):
    """The same classes in two more domains."""
    root = tmp_path_factory.mktemp("domains")
    for name, seed in (("ink", 3), ("oil", 4)):
        tiny.write_images(root / name, per_class=10, seed=seed)
    target = {"source": str(root), "class_from": "parent", "val_fraction": 0.2, "test_fraction": 0.4}
    return build(DataSettings, {**tiny.data_of(folder).plain(), "target": target}, "data")


@pytest.fixture(scope="module")
def new(folder, tmp_path_factory):
    """Two new classes."""
    root = tiny.write_images(tmp_path_factory.mktemp("new") / "more", per_class=10, seed=6)
    shutil.rmtree(root / "red")
    for name in ("blue", "green"):
        (root / name).rename(root / f"more {name}")
    return tiny.data_of(folder, target=DataSettings(source=str(root)))


@pytest.fixture(scope="module")
def adapted(domains, tmp_path_factory) -> Artifact:
    out = tmp_path_factory.mktemp("dann") / "net"
    told = {"options": {**tiny.PLAIN, "width": 8}, "fit": {**tiny.FIT, "epochs": 4, "keep": "best"}}
    return tiny.stage("finetune", CONV, out, domains, strategy="dann", **told)


@pytest.fixture(scope="module")
def pointed(new, tmp_path_factory) -> Artifact:
    told = {"options": EPISODES, "fit": {**tiny.FIT, "epochs": 2}}
    return tiny.stage("finetune", CONV, tmp_path_factory.mktemp("points") / "net", new, strategy="prototypes", **told)


@pytest.fixture(scope="module")
def points(pointed, tmp_path_factory) -> Artifact:
    """Exported with the data that the network was made with."""
    return tiny.stage("export", pointed, tmp_path_factory.mktemp("points") / "onnx", data_for(pointed, {})[0])


def test_the_target_is_reported_beside_the_source_by_domain(adapted):
    report = adapted.manifest.report
    assert report["accuracy/target"].n == 24
    parts = [report[f"accuracy/target/{name}"] for name in ("ink", "oil")]
    assert [part.n for part in parts] == [12, 12]
    assert report["accuracy/target"].value == pytest.approx(sum(part.value for part in parts) / 2)
    assert any("without the target's labels" in note for note in report.notes)


def test_the_target_is_reported_on_the_exported_file(adapted, tmp_path):
    report = tiny.stage(
        "export", adapted, tmp_path / "onnx", data_for(adapted, {})[0], int8=False
    ).manifest.report  # fmt: skip
    for name in ("accuracy/target", "accuracy/target/oil"):
        assert report[f"{name}/fp32"].value == report[f"{name}/torch"].value == adapted.manifest.report[name].value


def test_new_classes_are_reported_by_episodes_in_torch_and_on_the_file(pointed, points):
    row = pointed.manifest.report["accuracy/target 2-way 1-shot"]
    assert (row.n, row.unit) == (600, "%")
    assert row.low < row.value < row.high or row.value == 100
    assert points.manifest.report["accuracy/target 2-way 1-shot/fp32"].value == pytest.approx(row.value, abs=0.1)


def test_unknown_classes_are_rejected_by_a_threshold_of_validation_episodes(points):
    rejection = read_rejection(Model(points.path / "model.onnx").metadata.extra)
    assert rejection.distance == "euclidean"
    assert set(rejection.thresholds) == {1, 5}
    report = points.manifest.report
    for name in ("known accepted", "unknown rejected"):
        assert 0 <= report[f"{name}/target 1-way 1-shot/fp32"].value <= 100
    # One of three colours is enrolled: the others are far from it.
    assert rejection.thresholds[1] < 0


def test_a_classifier_says_that_it_takes_no_others(dense, new, tmp_path):
    report = tiny.stage("export", dense, tmp_path / "onnx", new, int8=False).manifest.report
    assert "accuracy/target 2-way 1-shot/torch" in [row.name for row in report.rows], "its features may still serve"
    assert any("the file has fixed classes" in note for note in report.notes)


def test_the_file_takes_prototypes_and_gives_features(points):
    graph = onnx.load(points.path / "model.onnx").graph
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    assert shapes == {
        "images": ["batch", 3, 16, 16], "prototypes": ["classes", 16],
        "logits": ["batch", "classes"], "features": ["batch", 16],
    }  # fmt: skip
    model = Model(points.path / "model.onnx")
    assert model.labels == tiny.CLASSES
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    other = model.with_prototypes(model.features_of(pixels), ["a", "b", "c", "d"])
    assert other.logits(pixels).argmax(1).tolist() == [0, 1, 2, 3]
    assert model.logits(pixels).shape == (4, 3), "the one it came from knows what it knew"


def test_quantized_files_take_prototypes_too(pointed, tmp_path, monkeypatch):
    """Whichever is faster here: the first candidate is kept."""
    monkeypatch.setattr("effxfer.deploy.int8.search._choose_fastest", lambda _judge, trials: (trials[1], trials))
    monkeypatch.setattr("effxfer.deploy.int8.search._rows", lambda *_: ())
    made = tiny.stage("export", pointed, tmp_path / "onnx", data_for(pointed, {})[0])
    report, file = made.manifest.report, made.path / "model.int8.onnx"
    kinds = {node.op_type for node in onnx.load(file).graph.node}
    assert "DequantizeLinear" in kinds
    assert Model(file).takes_prototypes
    assert report["parity/prototypes/int8"].value < 1e-3
    assert report["accuracy/target 2-way 1-shot/int8"].n == 600


def test_what_sees_prototypes_stays_in_float(points):
    graph = onnx.load(points.path / "model.onnx").graph
    left = set(from_prototypes(graph))
    assert {node.op_type for node in graph.node if node.name in left} >= {"MatMul"}
    assert not {node.op_type for node in graph.node if node.name in left} & {"Conv"}
    del graph.input[1]
    assert from_prototypes(graph) == []


def test_a_file_that_answers_otherwise_is_refused(pointed, points, monkeypatch):
    net, pixels = pointed.net(), np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    model = Model(points.path / "model.onnx")
    assert check_prototypes(model, net, pixels, 1e-3)["parity/prototypes"].value < 1e-3
    net.head.distance = "cosine"
    with pytest.raises(GateError, match="answers otherwise"):
        check_prototypes(model, net, pixels, 1e-3)


def test_a_head_of_prototypes_is_replaced_only_if_it_must_be(pointed, new, tmp_path):
    again = tiny.stage("finetune", pointed, tmp_path / "again", new, strategy="full", fit={"epochs": 0})
    assert again.manifest.edits == pointed.manifest.edits
    told = {"options": {**EPISODES, "distance": "cosine"}, "fit": {"epochs": 0}}
    other = tiny.stage("finetune", pointed, tmp_path / "other", new, strategy="prototypes", **told)
    assert [e["spec"]["distance"] for e in other.manifest.edits] == ["euclidean", "cosine"]


def test_a_result_is_kept_out_of_the_target(dense, new):
    with pytest.raises(SettingsError, match="lies inside the data set"):
        tiny.stage("finetune", dense, type(dense.path)(new.target.source) / "out", new)


def test_prototypes_of_another_width_are_refused(points):
    with pytest.raises(ModelError, match="need prototypes of shape"):
        Model(points.path / "model.onnx").with_prototypes(np.zeros((2, 3), np.float32), ["a", "b"])


def test_a_target_without_test_images_is_left_out_with_a_note(dense, tmp_path):
    target = tiny.data_of(tiny.write_images(tmp_path / "few", per_class=2, seed=9))
    data = tiny.data_of(tiny.write_images(tmp_path / "many", per_class=5), target=target)
    report = tiny.stage("adapter", adapted_by(dense), tmp_path / "out", data).manifest.report
    assert "the target has no test images: nothing is reported on it" in report.notes
    assert "accuracy/target" not in [row.name for row in report.rows]
