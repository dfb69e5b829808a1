"""A network that learned tasks in time, pruned and exported: what each of them loses, and what is refused."""

import numpy as np
import pytest

from effxfer.deploy.export.logits import onnx_logits
from effxfer.report import Report
from effxfer.stages.deliver import compressed_tasks as module
from effxfer.stages.deliver.task_drops import TITLE, report_forgetting
from tests import tiny

FIT = {**tiny.FIT, "epochs": 2}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Two tasks with classes of their own."""
    folder = tmp_path_factory.mktemp("stream")
    images = tiny.write_images(folder / "all")
    for task, names in (("first", ("blue", "green")), ("second", ("red",))):
        for name in names:
            (folder / task).mkdir(exist_ok=True)
            (images / name).rename(folder / task / name)
    return [tiny.data_of(folder / task) for task in ("first", "second")]


@pytest.fixture(scope="module")
def learned(tmp_path_factory, stream):
    options = {**tiny.PLAIN, "memory": 12, "holdout": 4}
    out = tmp_path_factory.mktemp("learned") / "net"
    return tiny.stage("continual", tiny.BACKBONE, out, stream, controls="none", options=options, fit=FIT)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory, stream, learned):
    out = tmp_path_factory.mktemp("pruned") / "net"
    return tiny.stage("prune channels", learned, out, stream, fit=FIT)


def accuracies(artifact):
    (table,) = (table for table in artifact.manifest.report.tables if table.title == TITLE)
    return {row["model"]: row for row in table.rows}


@pytest.mark.slow
def test_a_pruned_network_is_compared_with_the_dense_one_on_each_task(learned, pruned):
    reached, report = accuracies(pruned), pruned.manifest.report
    assert list(reached) == ["dense", "pruned"]
    last = learned.manifest.report.tables[0].rows[-1]
    assert [reached["dense"][name] for name in ("first", "second")] == [last["first"], last["second"]]
    loss = reached["dense"]["first"] - reached["pruned"]["first"]
    assert report["forgetting/pruned"].value == pytest.approx(loss, abs=0.01)
    assert report["worst task/pruned/drop"].value >= loss - 0.01


@pytest.mark.slow
def test_tasks_whose_data_are_gone_are_measured_on_what_the_memory_holds_out(stream, learned, tmp_path):
    alone = tiny.stage("prune channels", learned, tmp_path / "alone", stream[1], fit={**FIT, "epochs": 1})
    reached = accuracies(alone)
    assert list(reached["dense"]) == ["model", "first, held out", "second, held out", "mean"]
    assert "forgetting/pruned" in {row.name for row in alone.manifest.report.rows}


@pytest.mark.slow
def test_its_files_are_compared_with_the_dense_network_and_int8_that_forgets_a_task_is_refused(
    stream, pruned, tmp_path, monkeypatch
):
    def forgetful(file, rows, **options):
        raw = onnx_logits(file, rows, **options)
        return np.roll(raw, 1, 1) if "int8" in str(file) else raw

    options = {"max_drop": 5.0, "latency_seconds": 0.2}
    monkeypatch.setattr(module, "onnx_logits", forgetful)
    monkeypatch.setattr(module, "FILES", {"fp32": "model.onnx", "int8": "copy.int8.onnx"})
    monkeypatch.setattr(
        "effxfer.stages.deliver.export.try_int8",
        lambda fp32, out, *_rest: (fp32.parent / "copy.int8.onnx").write_bytes(fp32.read_bytes()) and Report(),
    )
    artifact = tiny.stage("export", pruned, tmp_path / "out", stream, **options)
    assert any("no int8 model: it loses" in note and "on the task" in note for note in artifact.manifest.report.notes)
    reached = accuracies(artifact)
    assert list(reached) == ["dense", "fp32"]
    assert reached["fp32"] == {**accuracies(pruned)["pruned"], "model": "fp32"}
    assert "forgetting/fp32" in {row.name for row in artifact.manifest.report.rows}


def test_forgetting_is_the_mean_loss_on_all_tasks_but_the_last():
    reached = {"dense": {"a": 90.0, "b": 80.0, "c": 70.0}, "int8": {"a": 88.0, "b": 76.0, "c": 10.0}}
    assert report_forgetting(reached)["forgetting/int8"].value == pytest.approx(3)
    assert not report_forgetting({"dense": {"a": 90.0}, "int8": {"a": 80.0}}).rows
