import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.net.compression.early_exit import find_modules_after
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.taps import tap_widths
from effxfer.stages.head_search.search import search
from effxfer.stages.prune.channels import channels as channels_stage
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.train.finetune import finetune
from effxfer.train.devices import pick_device
from effxfer.train.state import Work
from tests import digit_pairs, tiny


@pytest.fixture(scope="module")
def headed(tmp_path_factory, dense, data):
    return tiny.stage(
        "search", dense, tmp_path_factory.mktemp("search") / "head", data, taps=[["out"], ["stage2", "out"]],
        confidence=0.0,
    )  # fmt: skip


def test_the_body_stays_as_it_is(headed, dense):
    ours, theirs = headed.net().body.state_dict(), dense.net().body.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_head_it_found_is_in_the_network(headed):
    assert headed.manifest.edits[-1]["kind"] == "set_head"
    assert headed.manifest.edits[-1]["taps"] in (["out"], ["stage2", "out"])
    assert headed.manifest.report["accuracy/val"].value >= 75
    assert headed.manifest.classes == tiny.CLASSES


def test_repeats_bit_for_bit(headed, dense, data, tmp_path):
    again = tiny.stage("search", dense, tmp_path / "again", data, taps=[["out"], ["stage2", "out"]], confidence=0.0)
    ours, theirs = again.net().state_dict(), headed.net().state_dict()
    assert again.manifest.edits == headed.manifest.edits
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_workers_try_heads_side_by_side(dense, data, tmp_path):
    found = [
        tiny.stage("search", dense, tmp_path / str(workers), data, taps=[["out"]], confidence=0.0, workers=workers)
        for workers in (1, 2)
    ]
    reports = [one.manifest.report for one in found]
    assert [report.get("trials complete") + report.get("trials pruned") for report in reports] == [4, 4]
    assert [report.get("trials lost") for report in reports] == [0, 0]


def test_a_layer_that_is_not_there_is_suggested(dense, data, tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'stage2'"):
        tiny.stage("search", dense, tmp_path / "out", data, taps=[["stagee2"]])


def test_a_head_that_is_as_good_stays(dense, data, tmp_path):
    made = tiny.stage("search", dense, tmp_path / "kept", data, taps=[["out"]])
    ours, theirs = made.net().state_dict(), dense.net().state_dict()
    assert made.manifest.edits == dense.manifest.edits
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    report = made.manifest.report
    assert any(note.startswith("kept the current head") for note in report.notes)
    assert report["present head accuracy/val"].value == report["accuracy/val"].value


def test_a_worse_head_is_replaced(dense, data, tmp_path):
    net = dense.net()
    for parameter in net.head.parameters():
        parameter.data.zero_()
    task = load_task(data, net.input, RunContext(out=tmp_path / "out"))
    settings = tiny.settings_of("search", taps=[["out"]])
    net, report = search(net, [task], settings, device=pick_device("cpu"), work=Work(None))
    assert report["accuracy/val"].value >= 75
    assert not any(note.startswith("kept the current head") for note in report.notes)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return digit_pairs.write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize(("kind", "metric"), [("multi", "mAP"), ("value", "R2")])
def test_several_labels_and_values_have_their_heads_searched(kind, metric, pairs, tmp_path):
    data = digit_pairs.data_of(pairs, kind)
    start = tiny.finetune(tmp_path / "start", data, fit={**tiny.FIT, "epochs": 2})
    headed = tiny.stage("search", start, tmp_path / "head", data, confidence=0.0)
    net, report = headed.net(), headed.manifest.report
    assert net.output.kind == kind
    assert report[f"{metric}/val"].value == pytest.approx(report[f"head {metric}/val"].value, abs=0.5), (
        "but for rounded features"
    )
    if kind == "multi":
        assert any(net.output.thresholds)
        assert net.output.thresholds != start.net().output.thresholds, "they are those of the new head"
    again = tiny.stage("search", headed, tmp_path / "again", data, pools=["mean"])
    assert again.manifest.edits == headed.manifest.edits
    assert again.manifest.report[f"present head {metric}/val"].value == pytest.approx(report[f"{metric}/val"].value)
    assert any(f"% val {metric}; replacing it" in note for note in again.manifest.report.notes)


def test_a_metric_of_single_labels_is_refused_for_others(pairs, tmp_path):
    with pytest.raises(SettingsError, match="metric = 'macro_f1' is not for labels of kind 'value'"):
        tiny.stage("search", tiny.BACKBONE, tmp_path / "out", digit_pairs.data_of(pairs, "value"), metric="macro_f1")


@pytest.mark.slow
def test_a_head_that_needs_less_of_the_body_ends_it_early_and_is_exported_as_it_was_timed(dense, data, tmp_path):
    made = tiny.stage(
        "search", dense, tmp_path / "early", data, taps=[["out"], ["stage1"]], latency=True, prefer="fast",
        max_drop=100.0, confidence=0.0, trials=6, pools=["mean", "attention"], finalists=3, kinds=["linear"],
    )  # fmt: skip
    report = made.manifest.report
    assert [edit["kind"] for edit in made.manifest.edits[-2:]] == ["set_head", "cut"]
    assert made.manifest.edits[-2]["taps"] == ["stage1"]
    assert report["head latency/ratio"].value < 0.9
    assert report["linear head latency/p50"].value > report["head latency/p50"].value
    net = made.net()
    assert sum(p.numel() for p in net.parameters()) < 0.5 * sum(p.numel() for p in dense.net().parameters())
    table = next(table for table in report.tables if table.title == "Best heads")
    assert [row["taken"] for row in table.rows].count("yes") == 1
    assert all(row["modelled x"] for row in table.rows)
    assert {curve.name for curve in report.curves} >= {"nothing beats these", "taken"}
    exported = tiny.stage("export", made, tmp_path / "onnx", data, int8=True, max_drop=100.0)
    assert exported.manifest.report["parity/batch1"].value < 1e-4


@pytest.mark.parametrize("spec", [{"pool": "gem"}, {"pool": "attention"}, {"pool": "bilinear"}, {"join": "gate"}])
def test_a_network_whose_head_pools_loses_channels_and_is_trained_on(spec, dense, data, tmp_path):
    net = dense.net()
    taps = ["stage1", "stage2"]
    channels = list(tap_widths(net, taps).values())
    apply_edit(net, "set_head", spec=spec, features=channels, classes=list(tiny.CLASSES), taps=taps)
    apply_edit(net, "cut", gone=find_modules_after(net, "stage2"))
    task = load_task(data, net.input, RunContext(out=tmp_path / "out"))
    before = sum(p.numel() for p in net.body.parameters())
    net, _ = channels_stage(
        net, [task], tiny.settings_of("prune channels"), device=pick_device("cpu"), work=Work(None)
    )  # fmt: skip
    assert sum(p.numel() for p in net.body.parameters()) < 0.9 * before
    again = rebuild(net.backbone, net.edits, net.input, net.classes).eval()
    again.load_state_dict(net.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(again(x), net.eval()(x))


@pytest.mark.parametrize("strategy", ["probe", "lp_ft", "full", "bss"])
def test_a_network_whose_head_pools_is_fine_tuned(strategy, dense, data, tmp_path):
    net = dense.net()
    taps = ["stage1", "stage2"]
    channels = list(tap_widths(net, taps).values())
    apply_edit(net, "set_head", spec={"pool": "attention"}, features=channels, classes=list(tiny.CLASSES), taps=taps)
    task = load_task(data, net.input, RunContext(out=tmp_path / "out"))
    options = {"batch": 8} if strategy == "probe" else tiny.PLAIN
    settings = tiny.settings_of("finetune", strategy=strategy, options=options, fit={**tiny.FIT, "epochs": 4})
    _, report = finetune(net, [task], settings, device=pick_device("cpu"), work=Work(None))
    assert report["accuracy/val"].value >= 60
