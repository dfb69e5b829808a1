"""Heads of several tasks, each with a search of its own on features that are computed once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from effxfer.errors import DataError, SettingsError
from effxfer.net.edits import rebuild
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.tagging import Tagging
from effxfer.runtime.predict import predict_files
from effxfer.stages.head_search import features as features_module
from effxfer.stages.head_search.search import search
from effxfer.stages.head_search.task_report import TITLE
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.train.head import new_head
from effxfer.train.evaluate import predict
from effxfer.train.state import Work
from effxfer.transfer.fine_tuning.linear import Features
from tests import tiny
from tests.transfer.tasks import CPU, body, task

OPTIONS = {**tiny.PLAIN, "controls": "none", "main": ["colour"]}
SHORT = {"epochs": 1, "lr": 0.01, "warmup": 0.0}
SEARCH = {"taps": [["out"], ["stage2"], ["stage2", "out"]], "confidence": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.two_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def network(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("net") / "net"
    return tiny.finetune(out, data, strategy="multi_task", options=OPTIONS, fit={**tiny.FIT, "epochs": 2})


@pytest.fixture(scope="module")
def passes():
    """The splits that features were computed of."""
    return []


@pytest.fixture(scope="module")
def headed(tmp_path_factory, network, data, passes):
    compute = features_module._compute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features_module, "_compute", lambda *a: (passes.append(a[3].name), compute(*a)))
        return tiny.stage("search", network, tmp_path_factory.mktemp("search") / "head", data, **SEARCH)


def test_each_task_has_a_head_of_its_own_on_one_body_that_stays(headed, network, passes):
    edit = next(edit for edit in reversed(headed.manifest.edits) if edit["kind"] == "set_head")
    assert edit["spec"]["kind"] == "per_task"
    assert [each["kind"] for each in edit["output"]["tasks"]] == ["single", "single"]
    assert edit["output"]["main"] == ["colour"], "the roles of the tasks stay"
    ours, theirs = headed.net().body.state_dict(), network.net().body.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert passes == ["train", "val"], "features are computed once for both"


def test_the_report_has_a_row_for_each_task_and_the_main_task_is_the_score(headed, network):
    report, before = headed.manifest.report, network.manifest.report
    (table,) = [table for table in report.tables if table.title == TITLE]
    assert [row["task"] for row in table.rows] == ["colour", "warm"]
    for row in table.rows:
        assert row["taken"] == "yes"
        for split in ("val", "test"):
            assert row[f"before {split} %"] == pytest.approx(before[f"accuracy/{split}/{row['task']}"].value)
            assert row[f"now {split} %"] == pytest.approx(report[f"accuracy/{split}/{row['task']}"].value)
        assert row["found val %"] == pytest.approx(row["now val %"]), "but for rounded features"
    assert report["score/val"].value == report["accuracy/val/colour"].value
    assert report["head accuracy/val/warm"].n == report["accuracy/val/warm"].n < report["accuracy/val/colour"].n
    assert report["trials complete/colour"].value + report["trials pruned/colour"].value == 4
    assert {table.title for table in report.tables} >= {"Best heads: colour", "Best heads: warm"}
    (note,) = [note for note in report.notes if "trials were judged on" in note]
    assert note.startswith("all tasks: "), "what both note is noted once"


def test_a_search_that_was_killed_in_its_second_task_goes_on_to_equal_bytes(
    headed, network, data, tmp_path, monkeypatch
):
    class KilledError(BaseException):
        pass

    from effxfer.search.workers import worker

    run, done = worker.run_trial, []

    def kill(*arguments, **named):
        done.append(arguments)
        if len(done) == 7:
            raise KilledError
        run(*arguments, **named)

    monkeypatch.setattr(worker, "run_trial", kill)
    with pytest.raises(KilledError):
        tiny.stage("search", network, tmp_path / "head", data, **SEARCH)
    monkeypatch.setattr(worker, "run_trial", lambda *a, **named: (done.append(a), run(*a, **named)))
    again = tiny.stage("search", network, tmp_path / "head", data, **SEARCH)
    assert len(done) == 9, "of 8 trials one was begun twice"
    assert (again.path / "weights.safetensors").read_bytes() == (headed.path / "weights.safetensors").read_bytes()
    assert again.manifest.edits == headed.manifest.edits


@pytest.mark.slow
def test_later_stages_take_the_network_and_a_file_answers_each_task(headed, data, tmp_path):
    options = {"strategy": "multi_task", "options": {**tiny.PLAIN, "controls": "none"}, "fit": SHORT}
    trained = tiny.stage("finetune", headed, tmp_path / "trained", data, **options)
    head = next(edit for edit in reversed(trained.manifest.edits) if edit["kind"] == "set_head")
    assert head["spec"]["kind"] == "per_task"
    pruned = tiny.stage("prune channels", trained, tmp_path / "pruned", data, **options)
    ours, before = (sum(p.numel() for p in one.net().body.parameters()) for one in (pruned, trained))
    assert ours < 0.6 * before
    exported = tiny.stage("export", pruned, tmp_path / "onnx", data, max_drop=100.0)
    assert exported.manifest.report["parity/agreement"].value == 100
    (row,) = predict_files(exported.path / "model.onnx", [min((Path(data.source).parent / "images").rglob("*.*g"))])
    assert list(row["tasks"]) == ["colour", "warm"]


@pytest.mark.slow
def test_the_latency_is_that_of_the_file(network, data, tmp_path):
    settings = {**SEARCH, "latency": True, "trials": 4, "finalists": 2, "pools": ["mean"], "max_latency_ratio": 1.5}
    report = tiny.stage("search", network, tmp_path / "head", data, **settings).manifest.report
    assert 0.5 < report["heads latency/ratio"].value < 2
    plain = report["linear heads latency/p50"].value
    for name in ("colour", "warm"):
        # The file with a plain head for every task, whichever task's finalists are timed.
        assert report[f"linear head latency/p50/{name}"].value == pytest.approx(plain, rel=1.0)
    (table,) = [table for table in report.tables if table.title == "Best heads: warm"]
    assert all(row["modelled x"] > 0.5 for row in table.rows)


def loaded(network, data, tmp_path):
    net = network.net()
    return net, load_task(data, net.input, RunContext(out=tmp_path / "out"))


def searched(net, given, **settings):
    return search(net, [given], tiny.settings_of("search", **settings), device=CPU, work=Work(None))


def test_a_worse_head_is_replaced_and_the_other_stays_to_the_bit(network, data, tmp_path):
    net, given = loaded(network, data, tmp_path)
    for parameter in net.head.heads[0].parameters():
        parameter.data.zero_()
    before = predict(net, given.val.rows, net.input, CPU)
    net, report = searched(net, given, taps=[["out"], ["stage2"]], confidence=0.99)
    after = predict(net, given.val.rows, net.input, CPU)
    assert torch.equal(after[:, 3:], before[:, 3:])
    assert not torch.equal(after[:, :3], before[:, :3])
    (kept,) = [note for note in report.notes if "kept the current head" in note]
    assert kept.startswith("warm: ")
    again = rebuild(net.backbone, net.edits, net.input, net.classes).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(predict(again, given.val.rows, net.input, CPU), after)
    # Once more: heads that differ are kept one by one as well.
    edits = list(net.edits)
    net, report = searched(net, given, taps=[["out"], ["stage2"]], confidence=0.99)
    assert net.edits == edits
    assert {row.name for row in report.rows} >= {f"present head accuracy/val/{name}" for name in ("colour", "warm")}


def test_an_auxiliary_task_keeps_its_head_and_gets_no_search(network, data, tmp_path):
    net, given = loaded(network, data, tmp_path)
    net.output = replace(net.output, auxiliary=("warm",), main=())
    before = predict(net, given.val.rows, net.input, CPU)
    net, report = searched(net, given, **SEARCH)
    assert torch.equal(predict(net, given.val.rows, net.input, CPU)[:, 3:], before[:, 3:])
    assert "auxiliary tasks keep their heads: warm" in report.notes
    assert net.output.auxiliary == ("warm",)


def test_a_metric_is_for_the_tasks_that_have_it(data, tmp_path):
    net = body()
    given = load_task(data, net.input, RunContext(out=tmp_path / "out"))
    with pytest.raises(SettingsError, match="metric = 'R2' is for none of the tasks colour, warm"):
        searched(net, given, metric="R2")
    _, report = searched(net, given, metric="macro_f1", trials=1)
    assert {"head macro_f1/val/colour", "accuracy/val/colour"} <= {row.name for row in report.rows}


@pytest.mark.parametrize("kind", ["mmoe", "split"])
def test_tasks_that_share_more_than_the_body_are_refused_by_name(kind, data, tmp_path):
    net = body()
    given = load_task(data, net.input, RunContext(out=tmp_path / "out"))
    new_head(net, given, 0, {"kind": kind})
    with pytest.raises(SettingsError, match=f"the tasks of this network share one of kind '{kind}'"):
        searched(net, given)


def test_a_file_faster_than_with_linear_heads_cannot_be_asked_for(network, data, tmp_path):
    with pytest.raises(SettingsError, match="which a head of one of 2 tasks cannot decide"):
        searched(*loaded(network, data, tmp_path), max_latency_ratio=0.7)


def test_a_task_with_one_example_of_each_class_cannot_be_cut_into_folds():
    given = two_questions()
    labels = given.train.labels.copy()
    labels[2:, 1] = np.nan
    with pytest.raises(DataError, match="side has one training image of each class"):
        searched(body(), replace(given, train=replace(given.train, labels=labels)))


def test_tags_of_words_are_refused_by_name():
    given = two_questions()
    outputs = {**given.output.outputs, "names": Tagging(classes=("B-city", "O"))}
    with pytest.raises(SettingsError, match="tasks tag words: names"):
        searched(body(), replace(given, output=TaskOutputs(outputs=outputs)))


def two_questions(count=240):
    """Noise with two questions: on which side a feature of the untrained body is, and whether it is on that of another.

    Half of the labels of the first are unknown. No linear head of the body's output answers the second.
    """
    single, net, rng = task(), body().eval(), np.random.default_rng(0)
    levels = rng.integers(0, 256, (count, 1, 1, 3))
    rows = np.clip(levels + rng.integers(-20, 21, (count, 16, 16, 3)), 0, 255).astype(np.uint8)
    x = predict(Features(net), rows, single.input, CPU).double().numpy()
    x -= x.mean(0)
    first, second = np.linalg.svd(x, full_matrices=False)[0][:, :2].T
    labels = np.stack([first * second > 0, first > 0], 1).astype(np.float32)
    labels[::2, 1] = np.nan
    labels[:2, 1] = (0, 1)

    def split(start, end):
        names = [str(number) for number in range(start, end)]
        return replace(single.train, rows=rows[start:end], labels=labels[start:end], names=names, canvas=None)

    third = count * 3 // 5
    outputs = {"same": SingleLabel(classes=("no", "yes")), "side": SingleLabel(classes=("left", "right"))}
    parts = {"train": split(0, third), "val": split(third, count), "test": split(third, count)}
    return replace(single, output=TaskOutputs(outputs=outputs), unlabelled=None, class_embeddings=None, **parts)


def test_a_searched_head_is_better_where_the_default_one_is_too_weak_and_as_good_elsewhere():
    given = two_questions(500)
    _, report = searched(
        body(), given, taps=[["out"]], pools=["mean"], trials=6, epochs=30, startup=6, finalists=2, folds=1
    )
    assert report["head accuracy/val/side"].value >= report["linear head accuracy/val/side"].value
    assert report["linear head accuracy/val/same"].value < 80, "the sign of a product"
    assert report["head accuracy/val/same"].value > report["linear head accuracy/val/same"].value + 10
    assert report["accuracy/test/same"].value == pytest.approx(report["head accuracy/val/same"].value), "one split here"
