"""From known classes to an exported file that knows new ones by their rows, by the command line's way."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

import effxfer
from effxfer.artifact import Artifact
from effxfer.data.settings import DataSettings
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.__main__ import main
from effxfer.runtime.model import Model, ModelError
from effxfer.stages.settings.common import Finetune
from effxfer.stages.train.finetune import finetune
from effxfer.train.state import Work
from tests import tiny
from tests.transfer.tasks import CPU
from tests.transfer.zero_shot.attributes import ATTRIBUTES, WIDTH, body, described, write_files

BODY = BackboneSettings(source="effxfer.net.mlp:mlp", args={"inputs": WIDTH})


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("described"))


@pytest.fixture(scope="module")
def solved(animals, tmp_path_factory) -> Artifact:
    out = tmp_path_factory.mktemp("eszsl") / "net"
    return tiny.stage("finetune", BODY, out, animals, strategy="eszsl", options={}, fit={})


@pytest.fixture(scope="module")
def file(solved, animals, tmp_path_factory) -> Artifact:
    return tiny.stage("export", solved, tmp_path_factory.mktemp("file") / "onnx", animals, int8=False)


def test_new_classes_are_reported_alone_beside_known_ones_and_shuffled(solved):
    report = solved.manifest.report
    assert report["accuracy/target"].value > report["accuracy/target class embeddings shuffled"].high + 20
    assert report["generalized/harmonic mean"].value > report["generalized/harmonic mean uncalibrated"].value
    assert report["generalized/seen uncalibrated"].value >= report["generalized/seen"].value
    assert report["calibration constant"].value > 0
    (table,) = report.tables
    assert [row["calibration"] for row in table.rows] == [report["calibration constant"].value, 0]
    assert not any("best epoch" in note for note in report.notes)


def test_the_file_says_what_the_network_says(solved, file):
    told, written = solved.manifest.report, file.manifest.report
    assert written["parity/class embeddings/fp32"].value < 1e-3
    for name in ("accuracy/target", "generalized/harmonic mean", "generalized/area"):
        assert written[f"{name}/fp32"].value == pytest.approx(told[name].value, abs=0.5)
    model = onnx.load(file.path / "model.onnx")
    assert [value.name for value in model.graph.input] == ["features", "class_embeddings"]
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[1].type.tensor_type.shape.dim] == [
        "classes", ATTRIBUTES,
    ]  # fmt: skip


def test_a_model_takes_any_classes_and_lowers_its_own_beside_new_ones(file, animals):
    model = Model(file.path / "model.onnx")
    assert model.takes_classes
    rows = np.load(animals.target.source)["features"][:9]
    own = model.metadata.labels
    table = np.random.default_rng(0).random((3, ATTRIBUTES), np.float32)
    names = (own[1], "new", "newer")
    plain, lowered = (model.with_classes(table, names, calibration=c).logits(rows) for c in (0.0, None))
    assert np.allclose(plain - lowered, [model.metadata.calibration, 0, 0], atol=1e-4)
    assert model.metadata.calibration > 0
    assert model.labels == own, "the model itself stays as it was"
    assert [one.label for one in model.with_classes(table[1:2], ["new"]).predict(rows[:2])] == ["new", "new"]


@pytest.mark.parametrize(
    ("table", "labels", "words"),
    [
        (np.zeros((2, 3)), ("a", "b"), r"a table of shape \(2, 24\), not \(2, 3\)"),
        (np.zeros((2, 24)), ("a", "a"), "2 classes of different names"),
        (np.zeros((0, 24)), (), "0 classes"),
        (np.full((1, 24), np.nan), ("a",), "NaN or infinity"),
    ],
)
def test_tables_must_fit(file, table, labels, words):
    with pytest.raises(ModelError, match=words):
        Model(file.path / "model.onnx").with_classes(table.astype(np.float32), labels)


def test_a_device_reads_classes_from_a_table(file, animals, call, capsys):
    examples, classes = animals.target.source, animals.class_embeddings
    told = call("predict", file.path, examples, "--classes", classes)
    assert "new 3" in told
    assert main([str(file.path / "model.onnx"), examples, "--classes", classes]) == 0
    assert '"label": "new' in capsys.readouterr().out
    assert main([str(file.path / "model.onnx"), examples, "--classes", f"{classes}.absent"]) == 3
    assert "E370" in capsys.readouterr().err


def test_one_way_to_name_classes(file, animals, call):
    with pytest.raises(SettingsError, match="two ways to name other classes"):
        call("predict", file.path, animals.target.source, "--classes", animals.class_embeddings, "--support", ".")


def test_other_files_say_that_they_take_none(exported, animals, call):
    with pytest.raises(ModelFileError, match="takes no class embeddings"):
        call("predict", exported.path, animals.source, "--classes", animals.class_embeddings)


def complete(given, **options):
    net = body(given)
    net.input = given.input
    settings = Finetune(strategy="eszsl", options=options)
    return finetune(net, [given], settings, device=CPU, work=Work(None))


def test_neither_labels_nor_rows_of_new_classes_have_a_say():
    given = described(8, 3, 12)
    rng = np.random.default_rng(0)
    parts = {
        name: replace(split, labels=rng.permutation(split.labels))
        for name, split in (("train", given.target.train), ("val", given.target.val), ("test", given.target.test))
    }
    others = rng.random(given.target.class_embeddings.shape, np.float32)
    scrambled = replace(given, target=replace(given.target, class_embeddings=others, **parts))
    first, second = (complete(one)[0].head for one in (given, scrambled))
    assert first.calibration.item() == second.calibration.item()
    assert all(value.equal(second.state_dict()[name]) for name, value in first.state_dict().items())


def test_few_known_classes_have_no_constant():
    net, report = complete(described(3, 2, 12))
    assert net.head.calibration.item() == 0
    assert any("3 known classes are too few" in note for note in report.notes)


def test_classes_that_the_network_knew_before_are_named():
    given = described(8, 3, 12)
    net, _ = complete(given)
    net.output = replace(net.output, classes=(*given.classes[:-1], "New 1"))
    report = finetune(net, [given], Finetune(strategy="eszsl"), device=CPU, work=Work(None))[1]
    assert any("trained on 1 of the new classes before, such as 'new 1'" in note for note in report.notes)


def test_what_a_strategy_needs_is_asked_for_before_anything_is_loaded(animals, tmp_path):
    bare = DataSettings(source=animals.source)
    with pytest.raises(SettingsError, match="'eszsl' learns from what is said about classes, and animals says nothing"):
        tiny.stage("finetune", BODY, tmp_path / "net", bare, strategy="eszsl", options={}, fit={})


def test_a_transfer_report_measures_the_unseen_classes_of_networks_and_files(solved, file):
    report, told = effxfer.transfer_report([solved.path, file.path]), solved.manifest.report
    for name in ("accuracy/target", "generalized/harmonic mean"):
        assert report[f"{name}/net"].value == pytest.approx(told[name].value, abs=0.01)
        assert report[f"{name}/onnx fp32"].value == pytest.approx(told[name].value, abs=0.5)
