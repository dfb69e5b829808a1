"""Several tasks of one table, from finetune to a file that answers them, and what is refused by name."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from effxfer.cli.prediction_table import answer, write_predictions
from effxfer.errors import SettingsError
from effxfer.runtime.model import Model
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.predict import predict_files
from effxfer.stages.train.multi_task.task_controls import delta_m
from tests import tiny

OPTIONS = {**tiny.PLAIN, "auxiliary": ["warm"], "controls": "full", "weighting": "cagrad"}
FIT = {"epochs": 2, "lr": 0.01, "warmup": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.two_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def network(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("net") / "net"
    return tiny.finetune(out, data, strategy="multi_task", options={**OPTIONS, "auxiliary": []}, fit=FIT)


def export(network, out, data, **options):
    return tiny.stage("export", network, out, data, int8=False, **options)


def test_the_report_compares_with_a_network_each_and_with_equal_weights(network):
    report = network.manifest.report
    (table,) = [table for table in report.tables if table.title.startswith("One network for all tasks")]
    assert [row["task"] for row in table.rows] == ["colour", "warm", "delta m"]
    assert list(table.rows[0]) == ["task", "metric", "one network %", "a network each %", "equal weights %"]
    assert {"delta m/test", "delta m/test equal weights", "worst task/test", "latency ratio"} <= {
        row.name for row in report.rows
    }
    assert 0 < report["latency ratio"].value < 1
    assert report["size of one file"].value < 0.6 * report["size of a file each"].value


def test_a_file_has_an_output_of_each_task_and_answers_them(network, data, tmp_path):
    artifact = export(network, tmp_path / "onnx", data)
    file = tmp_path / "onnx" / "model.onnx"
    outputs = onnxruntime.InferenceSession(file).get_outputs()
    assert [(output.name, output.shape) for output in outputs] == [("colour", ["batch", 3]), ("warm", ["batch", 2])]
    report = artifact.manifest.report
    assert report.metric == "score"
    assert report.score("val/fp32") == network.manifest.report.score("val")
    assert report["accuracy/val/warm/fp32"].value == network.manifest.report["accuracy/val/warm"].value
    image = min(Path(data.source).parent.rglob("red/*.png"))
    (row,) = predict_files(file, [image])
    assert set(row["tasks"]) == {"colour", "warm"}
    assert set(row["tasks"]["warm"]) == {"label", "probability", "top"}
    assert answer(row).startswith(f"colour: {row['tasks']['colour']['label']} ")
    written = write_predictions([row], tmp_path / "p.csv").read_text()
    assert written.splitlines()[0] == "file,colour label,colour probability,warm label,warm probability,error"
    json.dumps(row)
    probabilities = Model(file).probabilities([image])
    assert probabilities.shape == (1, 5)
    np.testing.assert_allclose([probabilities[:, :3].sum(), probabilities[:, 3:].sum()], 1, atol=1e-5)


def test_auxiliary_tasks_are_not_in_the_file_and_a_single_one_left_is_a_plain_file(data, tmp_path):
    options = {**OPTIONS, "controls": "none"}
    net = tiny.finetune(tmp_path / "net", data, strategy="multi_task", options=options, fit=FIT)
    output = net.net().output
    assert isinstance(output, TaskOutputs)
    assert (output.auxiliary, output.selecting) == (("warm",), ("colour",))
    artifact = export(net, tmp_path / "onnx", data)
    assert "auxiliary tasks left out of the file: warm" in artifact.manifest.report.notes
    assert artifact.manifest.classes == tiny.CLASSES
    model = Model(tmp_path / "onnx" / "model.onnx")
    assert model.output.kind == "single"
    assert artifact.manifest.report.score("val/fp32") == net.manifest.report["accuracy/val/colour"].value
    again = export(artifact, tmp_path / "again", data)
    assert again.manifest.classes == tiny.CLASSES


@pytest.mark.parametrize(("stage", "options", "says"), [
    ("finetune", {"strategy": "probe", "options": {"batch": 8}}, "'probe' learns labels of .* the data hold"),
    ("finetune", {"strategy": "prototypes"}, "learns labels of kind single"),
    ("finetune", {"options": {"balance": 0.5}}, "options.balance has no effect on labels of kind 'tasks'"),
    ("finetune", {"options": {"augment": {"mixup": 0.2}}}, "mixes the labels of one task"),
    ("finetune", {"strategy": "multi_task", "options": {"main": ["colours"]}}, r"no such task \(did you mean 'colour'"),
    ("finetune", {"strategy": "multi_task", "options": {"auxiliary": ["warm", "colour"]}}, "names all tasks"),
    ("finetune", {"strategy": "multi_task", "options": {"c": 0.3}}, "no effect with weighting 'equal'"),
    ("finetune", {"strategy": "multi_task", "options": {"experts": 2}}, "no effect with sharing 'hard'"),
    ("finetune", {"strategy": "multi_task", "options": {"sharing": "mtan", "start": 0.5}}, "it is for cross_stitch"),
    ("prune lottery", {"strategy": "multi_task", "options": {"sharing": "mtan"}}, "the network share otherwise"),
    ("search", {"max_latency_ratio": 0.6}, "max_latency_ratio"),
    ("curve", {}, "needs labels of kind single"),
    ("export", {"hf_inputs": True}, "hf_inputs needs texts, this network takes images"),
    ("prune gradual", {"strategy": "multi_task"}, "does not train the weights to be pruned"),
])  # fmt: skip
def test_what_does_not_take_several_tasks_is_refused_by_name(network, data, tmp_path, stage, options, says):
    with pytest.raises(SettingsError, match=says):
        tiny.stage(stage, network, tmp_path / "out", data, **options)


def test_strategies_of_one_network_learn_several_tasks_by_the_plain_sum(data, tmp_path):
    net = tiny.finetune(tmp_path / "net", data, strategy="lora", fit={**FIT, "epochs": 1})
    assert export(net, tmp_path / "onnx", data).manifest.report["parity/agreement"].value == 100


@pytest.mark.slow
def test_a_mixture_of_experts_reaches_a_checked_file_of_all_tasks_and_of_one(data, tmp_path):
    for auxiliary, columns in (([], (3, 2)), (["warm"], (3,))):
        out = tmp_path / str(len(auxiliary))
        options = {**OPTIONS, "controls": "none", "sharing": "mmoe", "experts": 3, "auxiliary": auxiliary}
        net = tiny.finetune(out / "net", data, strategy="multi_task", options=options, fit={**FIT, "epochs": 1})
        artifact = export(net, out / "onnx", data)
        outputs = onnxruntime.InferenceSession(out / "onnx" / "model.onnx").get_outputs()
        assert tuple(output.shape[1] for output in outputs) == columns
        assert artifact.manifest.report["parity/agreement"].value == 100
        reached = artifact.manifest.report["accuracy/val/colour/fp32" if not auxiliary else "accuracy/val/fp32"]
        assert reached.value == net.manifest.report["accuracy/val/colour"].value
    small = tiny.stage("prune channels", net, tmp_path / "small", data, strategy="multi_task",
                       options={**tiny.PLAIN, "controls": "none"}, fit={**FIT, "epochs": 0})  # fmt: skip
    assert type(small.net().head).__name__ == "Mmoe"


@pytest.mark.slow
@pytest.mark.parametrize(("sharing", "head"), [("mtan", "Mtan"), ("cross_stitch", "SplitHead")])
def test_attention_and_copies_reach_checked_files_of_all_tasks_and_of_one(data, tmp_path, sharing, head):
    plain = {**tiny.PLAIN, "controls": "none"}
    for auxiliary, columns in (([], (3, 2)), (["colour"], (2,))):
        out = tmp_path / str(len(auxiliary))
        options = {**plain, "weighting": "cagrad", "sharing": sharing, "auxiliary": auxiliary}
        net = tiny.finetune(out / "net", data, strategy="multi_task", options=options, fit={**FIT, "epochs": 1})
        artifact = export(net, out / "onnx", data)
        outputs = onnxruntime.InferenceSession(out / "onnx" / "model.onnx").get_outputs()
        assert tuple(output.shape[1] for output in outputs) == columns
        report = artifact.manifest.report
        assert report["parity/agreement"].value == 100
        reached = report["accuracy/val/warm/fp32" if not auxiliary else "accuracy/val/fp32"]
        assert reached.value == net.manifest.report["accuracy/val/warm"].value
    few = {"strategy": "multi_task", "options": plain, "fit": {**FIT, "epochs": 1}}
    ticket = tiny.stage("prune lottery", net, tmp_path / "ticket", data, rounds=1, **few)
    small = tiny.stage("prune channels", net, tmp_path / "small", data, **few)
    adapted = tiny.stage("finetune", net, tmp_path / "lora", data, strategy="lora", fit={**FIT, "epochs": 1})
    for name, artifact in {"ticket": ticket, "small": small, "lora": adapted}.items():
        assert type(artifact.net().head).__name__ == head
        exported = tiny.stage("export", artifact, tmp_path / f"{name}-onnx", data, max_drop=100)
        assert any(table.title == "int8 recipes" for table in exported.manifest.report.tables)
        assert exported.manifest.report["parity/agreement"].value == 100


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["mtan", "cross_stitch"])
def test_what_tasks_share_is_compared_with_hard_sharing(data, tmp_path, sharing):
    options = {**tiny.PLAIN, "controls": "full", "sharing": sharing}
    report = tiny.finetune(tmp_path / "net", data, strategy="multi_task", options=options, fit=FIT).manifest.report
    (table,) = [table for table in report.tables if table.title.startswith("One network for all tasks")]
    assert list(table.rows[0]) == ["task", "metric", "one network %", "a network each %", "hard sharing %"]
    assert (report["latency ratio"].value > 0.8) == (sharing == "cross_stitch")


@pytest.mark.slow
def test_a_ticket_and_removed_channels_keep_all_tasks(network, data, tmp_path):
    few = {"strategy": "multi_task", "options": {**tiny.PLAIN, "controls": "none"}, "fit": {**FIT, "epochs": 1}}
    ticket = tiny.stage("prune lottery", network, tmp_path / "ticket", data, rounds=1, **few)
    assert ticket.net().masks()
    small = tiny.stage("prune channels", network, tmp_path / "small", data, **few)
    for name, net in {"ticket": ticket, "small": small}.items():
        report = export(net, tmp_path / f"{name}-onnx", data).manifest.report
        assert report.score("val/fp32") == net.manifest.report.score("val")


def test_delta_m_is_a_mean_of_relative_changes():
    assert delta_m({"a": 110.0, "b": 45.0}, {"a": 100.0, "b": 50.0}) == pytest.approx(0)
    assert delta_m({"a": 3.0}, {"a": -0.5}) == pytest.approx(350), "a score below a point counts as one"
