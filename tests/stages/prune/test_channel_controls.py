"""Latency is what `Clock` says: multiply-adds; the last test alone uses this machine's clock."""

import json
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from effxfer.benchmark.protocol import latency as protocol
from effxfer.data.settings import DataSettings
from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.model_source import open_model
from effxfer.net.backbones.trust import trust
from effxfer.net.settings import ENCODER, BackboneSettings
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.prune import channel_controls, channels, control_networks
from effxfer.stages.prune.channel_controls import loss_for
from effxfer.stages.prune.control_networks import input_sides, multiply_adds, open_control_backbones
from effxfer.stages.runner import onnx_timing
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import settings_identity, stage_key
from effxfer.stages.runner.run import preview
from effxfer.stages.runner.saved_net import net_from_state
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.finetune import train
from effxfer.train.devices import Device
from effxfer.train.settings import METRICS
from tests import tiny
from tests.data.text_files import texts, write_lines

CHANNELS = "prune channels"
NONE = {**tiny.FIT, "epochs": 0}
ONE = {**tiny.FIT, "epochs": 1}
SOURCE = "tests.prune.nets:Tiny"
SMALL = {"source": SOURCE, "args": {"width": 4}, "pretrained": False}
HALF = {"ratio": None, "macs_ratio": 0.5, "scope": "global", "round_to": 1, "fit": ONE}
FULL = {**HALF, "controls": "full", "control_seeds": 2, "control_backbones": [SMALL]}
RAW = {**HALF, "fit": NONE, "reconstruct": False, "controls": "full", "control_seeds": 1}
UNIFORM = "uniform, multiply-adds alike"
NEW = "weights drawn anew"


def timing(net, dense):
    ratio = multiply_adds(net) / multiply_adds(dense)
    return PairedTiming(ratio=ratio, low=ratio, high=ratio, ms=ratio, dense_ms=1.0, n=5)


@pytest.fixture(scope="module")
def dense(tmp_path_factory, data):
    """A network of three convolutions that knows the classes of `folder`."""
    start = BackboneSettings(source=SOURCE, args={"width": 16}, pretrained=False, size=16)
    return tiny.stage("finetune", start, tmp_path_factory.mktemp("wide") / "dense", data)


@pytest.fixture(autouse=True)
def _own_networks():
    """Results name the networks of tests."""
    with trust(SOURCE):
        yield


@contextmanager
def stopwatch(dense, threads, seed, rows=None):
    yield lambda net: timing(net, dense)


@pytest.fixture
def clock(monkeypatch):
    """A clock that counts multiply-adds, and exports nothing."""
    made = {}

    def exported(net, file, rows=None):
        made[file] = net
        return file

    def in_turns(files, threads, seed):
        dense = made[next(iter(files.values()))]
        return {name: timing(made[file], dense) for name, file in files.items()}

    monkeypatch.setattr(control_networks, "stopwatch", stopwatch)
    monkeypatch.setattr(channel_controls, "export_plain", exported)
    monkeypatch.setattr(channel_controls, "time_in_turns", in_turns)


class Followed:
    """Notes what is trained as a control; cuts the stage off when the control of the given label begins."""

    def __init__(self, monkeypatch, cut=""):
        self.seen, self.cut = [], cut
        monkeypatch.setattr(channel_controls, "train", self)

    def __call__(self, net, tasks, strategy, fit, *, label, seed, **more):
        if label == self.cut:
            raise KeyboardInterrupt
        self.seen.append((label, seed, fit.epochs, net.input.size, multiply_adds(net)))
        return train(net, tasks, strategy, fit, label=label, seed=seed, **more)


def table(made):
    (found,) = [table for table in made.manifest.report.tables if table.title == "Controls"]
    return {row["network"]: row for row in found.rows}


def state(made):
    return made.manifest.files["weights.safetensors"], made.manifest.edits


def test_fast_trains_two_and_leaves_the_pruned_network_as_it_is(clock, dense, data, tmp_path, monkeypatch):
    follow = Followed(monkeypatch)
    plain = tiny.stage(CHANNELS, dense, tmp_path / "plain", data, **HALF)
    assert not follow.seen
    fast = tiny.stage(CHANNELS, dense, tmp_path / "fast", data, **HALF, controls="fast")
    assert state(fast) == state(plain)
    assert {row for row in plain.manifest.report.rows if row.name != "steps per second"} <= set(
        fast.manifest.report.rows
    )
    lines = table(fast)
    smaller = next(name for name in lines if name.startswith("smaller input"))
    assert list(lines) == ["dense", "pruned", smaller, UNIFORM]
    assert lines["pruned"]["accuracy val %"] == fast.manifest.report["accuracy/val"].value
    assert lines["dense"]["accuracy val %"] == dense.manifest.report["accuracy/val"].value
    assert lines["pruned"]["multiply-adds M"] == pytest.approx(fast.manifest.report["macs/after"].value)
    assert lines[smaller]["p50 ratio"] <= 1.02 * lines["pruned"]["p50 ratio"]
    assert 0.95 <= lines[UNIFORM]["p50 ratio"] / lines["pruned"]["p50 ratio"] <= 1
    sizes = {label.split(" (")[0]: size for label, _, _, size, _ in follow.seen}
    assert sizes["control smaller input"] == 8
    assert sizes[f"control {UNIFORM} 1"] == 16


def test_full_trains_all_as_often_as_asked(clock, dense, data, tmp_path, monkeypatch):
    follow, labels = Followed(monkeypatch), []

    def noted(*args, label, seed, **more):
        labels.append((label, seed))
        return train(*args, label=label, seed=seed, **more)

    monkeypatch.setattr(channels, "train", noted)
    made = tiny.stage(CHANNELS, dense, tmp_path / "full", data, **FULL, control_epochs=2)
    kinds = [("smaller input (8 px)", 1), (UNIFORM, 1), (NEW, 2), (SOURCE, 2)]
    assert [(one[0], one[2]) for one in follow.seen] == [
        (f"control {kind} {number}", epochs) for kind, epochs in kinds for number in (1, 2)
    ]
    assert [one[1] for one in follow.seen[::2]] == [labels[0][1]] * 4, "the first repeat sees the same batches"
    assert len({one[1] for one in follow.seen}) == 2
    lines = table(made)
    assert [lines[kind]["n"] for kind, _ in kinds] == [2, 2, 2, 2]
    assert [lines[kind]["epochs"] for kind, _ in kinds] == [1, 1, 2, 2]
    assert lines[NEW]["multiply-adds M"] == lines["pruned"]["multiply-adds M"]
    assert made.manifest.report[f"{NEW} accuracy/test"].n == 2
    parts = {json.loads(row).get("part") for row in (made.path / METRICS).read_text().splitlines()}
    assert {"step-1", "control-fresh-1", "control-backbone-1-0"} <= parts


def test_the_epochs_that_ran_are_told_not_those_that_were_asked_for(clock, dense, data, tmp_path, monkeypatch):
    monkeypatch.setattr(channel_controls, "train", lambda *args, label, **more: [{}] * int(label[-1]))
    monkeypatch.setattr(channels, "train", lambda *args, **more: [])
    made = tiny.stage(CHANNELS, dense, tmp_path / "full", data, **FULL, control_epochs=9)
    assert [row["epochs"] for row in table(made).values()] == [0, 0, *["1 to 2"] * 4]


def test_go_on_after_a_cut(clock, dense, data, tmp_path, monkeypatch):
    whole = tiny.stage(CHANNELS, dense, tmp_path / "whole", data, **FULL)
    Followed(monkeypatch, cut=f"control {NEW} 2")
    with pytest.raises(KeyboardInterrupt):
        tiny.stage(CHANNELS, dense, tmp_path / "cut", data, **FULL)
    follow = Followed(monkeypatch)
    monkeypatch.setattr(control_networks, "stopwatch", lambda *_: pytest.fail("what was chosen is measured again"))
    resumed = tiny.stage(CHANNELS, dense, tmp_path / "cut", data, **FULL)
    assert [one[0] for one in follow.seen] == [
        f"control {NEW} 2", f"control {SOURCE} 1", f"control {SOURCE} 2"
    ]  # fmt: skip
    assert state(resumed) == state(whole)
    assert table(resumed) == table(whole)


def test_controls_of_texts_go_on_after_a_cut_with_their_tokenizer(clock, tmp_path, monkeypatch):
    labelled = tiny.data_of(write_lines(tmp_path / "labelled.txt", texts(40)))
    args = {"vocabulary": 80, "width": 24, "layers": 1, "heads": 3, "mlp": 48}
    start = BackboneSettings(source=ENCODER, args=args, size=24, pretrained=False)
    start = tiny.stage("finetune", start, tmp_path / "net", labelled, options={"batch": 16}, fit=NONE)
    fast = {**HALF, "macs_ratio": 0.7, "controls": "fast", "options": {"batch": 16}}
    Followed(monkeypatch, cut=f"control {UNIFORM} 1")
    with pytest.raises(KeyboardInterrupt):
        tiny.stage(CHANNELS, start, tmp_path / "out", labelled, **fast)
    Followed(monkeypatch)
    made = tiny.stage(CHANNELS, start, tmp_path / "out", labelled, **fast)
    assert list(table(made)) == ["dense", "pruned", "smaller input (8 tokens)", UNIFORM]


def test_a_control_that_wins_is_named(clock, dense, data, tmp_path):
    """What was never trained is no better for being pruned; a trained network of its latency beats it."""
    wide = BackboneSettings(source=SOURCE, args={"width": 64}, pretrained=False, size=16)
    made = tiny.stage(CHANNELS, wide, tmp_path / "out", data, **{**RAW, "control_backbones": [str(dense.path)]})
    lines = table(made)
    assert lines["dense (1)"]["p50 ratio"] < lines["pruned"]["p50 ratio"]
    (note,) = [note for note in made.manifest.report.notes if note.startswith("the control dense (1) wins: ")]
    assert note.endswith("prefer it: finetune it instead of pruning")


def test_a_control_that_loses_is_not_named(clock, dense, data, tmp_path):
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, **RAW)
    assert table(made)[NEW]["accuracy val %"] < table(made)["pruned"]["accuracy val %"] - 20
    assert not [note for note in made.manifest.report.notes if NEW in note]


def test_a_network_that_is_pruned_uniformly_has_no_such_control(clock, dense, data, tmp_path):
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, controls="fast", fit=NONE)
    assert UNIFORM not in table(made)
    assert any(note.startswith("no uniform control") for note in made.manifest.report.notes)


def test_under_a_latency_uniform_pruning_comes_to_that_latency(clock, dense, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        channels, "prune_step_to_latency", lambda net, *_, **__: channels.remove_channels(net, ratio=0.5)
    )
    told = {"ratio": None, "latency_ratio": 0.5, "round_to": 2, "fit": NONE, "controls": "fast"}
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, **told)
    lines = table(made)
    assert 0.8 <= lines["uniform, latency alike"]["p50 ratio"] / lines["pruned"]["p50 ratio"] <= 1.02


def test_a_pruned_network_of_smaller_images_is_compared_at_the_side_that_each_control_takes(
    clock, dense, data, tmp_path, monkeypatch
):
    follow = Followed(monkeypatch)
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, **{**FULL, "size": 12, "macs_ratio": 0.9})
    sizes = [size for _, _, _, size, _ in follow.seen]
    assert sizes == [8, 8, 12, 12, 12, 12, 12, 12]
    assert table(made)["dense"]["accuracy val %"] == dense.manifest.report["accuracy/val"].value


def test_what_cannot_be_made_is_left_out_and_said(clock, dense, data, tmp_path, monkeypatch):
    def refuse(net, seed):
        raise SettingsError("body.token lost channels and cannot be drawn anew")

    def diverge(*args, label, **more):
        if "uniform" in label:
            raise GateError("training diverged twice")
        return train(*args, label=label, **more)

    def exported(net, file, rows=None):
        if net.backbone["args"] == SMALL["args"]:
            raise ModelFileError("no such operator")
        return written(net, file)

    written = channel_controls.export_plain
    monkeypatch.setattr(control_networks, "initial_weights", refuse)
    monkeypatch.setattr(channel_controls, "train", diverge)
    monkeypatch.setattr(channel_controls, "export_plain", exported)
    monkeypatch.setattr(control_networks, "input_sides", lambda net: [net.input.size])
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, **{**FULL, "fit": NONE, "control_seeds": 1})
    assert list(table(made)) == ["dense", "pruned"]
    said = "\n".join(made.manifest.report.notes)
    for part in (
        "no control with smaller images", "training diverged", "cannot be drawn anew", "cannot be exported: no such op"
    ):  # fmt: skip
        assert part in said


def test_unfinished_work_names_no_code():
    about = {"backbone": {"source": "evil:make", "args": {}}, "edits": [], "preprocess": {}, "classes": []}
    with pytest.raises(ModelFileError, match="unfinished work names the network 'evil:make'") as caught:
        net_from_state({"about": json.dumps(about), "weights": {}})
    assert caught.value.code == "E413"


def test_only_sides_that_a_network_takes_are_tried(dense):
    assert input_sides(dense.net()) == [8, 12, 16]
    patches = {"source": "timm:test_vit", "pretrained": False, "size": 48}
    assert input_sides(open_model(BackboneSettings(**patches))[0]) == [16, 32, 48]
    fixed = {**patches, "args": {"dynamic_img_size": False, "img_size": 48}}
    assert input_sides(open_model(BackboneSettings(**fixed))[0]) == [48]


def test_a_teacher_sees_images_as_it_knows_them(dense):
    net, seen = dense.net(), []
    own = replace(net.input, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def loss(learner, batch, progress):
        seen.append((learner(None), batch[0]))
        return {"label": torch.zeros(())}

    class ControlContext:
        settings = build(Channels, {"ratio": 0.5, "teacher": 0.5}, CHANNELS)

    other = deepcopy(net)
    other.input = own
    ControlContext.dense, ControlContext.loss, ControlContext.foreign_loss = net, staticmethod(loss), None
    pixels = torch.rand(2, 3, 4, 4)

    def normal(preprocess):
        mean, std = (torch.tensor(x)[:, None, None] for x in (preprocess.mean, preprocess.std))
        return (pixels - mean) / std

    loss_for(ControlContext, other)(lambda images: images, (normal(own), None), 0.0)
    ((pupils, teachers),) = seen
    assert torch.equal(pupils, normal(own))
    assert torch.allclose(teachers, normal(net.input), atol=1e-5)
    assert loss_for(ControlContext, net) is loss


def test_only_the_same_backbone_learns_from_features(clock, dense, data, tmp_path):
    told = {**FULL, "control_seeds": 1, "teacher": {"features": 10.0}}
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, **told)
    rows = [json.loads(row) for row in (made.path / METRICS).read_text().splitlines()]
    foreign = [row for row in rows if row["part"].startswith("control-backbone")]
    assert len(foreign) == 1
    assert "features" not in foreign[0]
    assert all(row["features"] > 0 for row in rows if row not in foreign)


def test_controls_learn_from_the_same_teacher(clock, dense, data, tmp_path):
    made = tiny.stage(CHANNELS, dense, tmp_path / "out", data, **{**FULL, "control_seeds": 1, "teacher": 0.5})
    rows = [json.loads(row) for row in (made.path / METRICS).read_text().splitlines()]
    assert len(rows) == 5
    assert all("teacher" in row for row in rows)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"control_backbones": ["timm:x"]}, 'control_backbones has no effect with controls = "none"'),
        ({"control_epochs": 3, "controls": "fast"}, 'control_epochs has no effect with controls = "fast"'),
        ({"controls": "full", "control_backbones": [{"sourc": "timm:x"}]}, "did you mean 'source'"),
        ({"controls": "full", "control_backbones": [3]}, "control_backbones"),
        ({"controls": "all"}, "controls"),
    ],
)
def test_settings_are_checked(told, text):
    with pytest.raises(SettingsError, match=text):
        build(Channels, {"ratio": 0.5, **told}, CHANNELS)


def test_a_backbone_is_a_name_or_a_table():
    table = {"source": "timm:b", "args": {"pad_type": "same"}, "mean": [0.5, 0.5, 0.5]}
    told = build(Channels, {"ratio": 0.5, "controls": "full", "control_backbones": ["timm:a@f", table]}, CHANNELS)
    assert [one.source for one in told.control_backbones] == ["timm:a@f", "timm:b"]
    assert told.control_backbones[1].mean == (0.5, 0.5, 0.5)
    assert build(Channels, told.plain(), CHANNELS) == told


def test_other_weights_of_a_backbone_are_another_key(dense, data, tmp_path):
    here, file = RunContext(out=tmp_path / "out", device="cpu"), tmp_path / "w.safetensors"
    told = tiny.settings_of(CHANNELS, controls="full", control_backbones=[f"timm:mobilenetv2_035@{file}"])
    with pytest.raises(ModelFileError, match="no weights file"):
        preview(STAGES[CHANNELS], told, dense, [data], here)
    keys = set()
    for value in (0.0, 1.0):
        save_file({"x": torch.tensor([value])}, file)
        keys.add(stage_key(CHANNELS, told, dense, [data], here))
    assert len(keys) == 2
    plain = tiny.settings_of(CHANNELS)
    before = plain.plain() | {
        "teacher": {name: value for name, value in plain.plain()["teacher"].items() if name != "maps"}
    }
    assert settings_identity(plain) == before
    maps = tiny.settings_of(CHANNELS, teacher={"maps": 0.5})
    assert settings_identity(maps)["teacher"]["maps"] == 0.5


def test_mistakes_show_before_anything_is_trained(dense, data, tmp_path, monkeypatch):
    monkeypatch.setattr(channels, "train", lambda *_, **__: pytest.fail("training began"))
    unknown, patches = "timm:mobilenetv2_350", {"source": "timm:test_vit", "pretrained": False, "size": 24}
    for backbone, text in [(unknown, "has no network"), (patches, "cannot be used with images of 24 px")]:
        with pytest.raises(SettingsError, match=text):
            tiny.stage(CHANNELS, dense, tmp_path / "out", data, **{**FULL, "control_backbones": [backbone]})
    together = Device(torch=torch.device("cpu"), world=2)
    with pytest.raises(SettingsError, match="timed by one process"):
        open_control_backbones(tiny.settings_of(CHANNELS, controls="fast"), dense.net().input, together)
    assert open_control_backbones(tiny.settings_of(CHANNELS), dense.net().input, together) == {}


def test_backbones_take_images_as_the_pruned_network_does_and_models_as_they_do(dense):
    own = dense.net().input
    told = tiny.settings_of(
        CHANNELS, controls="full", control_backbones=[SMALL, {**SMALL, "size": 32}, str(dense.path)]
    )
    nets = open_control_backbones(told, replace(own, size=24, crop_pct=0.9), Device(torch=torch.device("cpu")))
    assert list(nets) == [SOURCE, f"{SOURCE} (2)", "dense (3)"]
    assert [(net.input.size, net.input.crop_pct) for net in nets.values()] == [
        (24, 0.9),
        (32, 0.9),
        (16, 1.0),
    ]


@pytest.mark.slow
def test_on_this_machine(dense, data, tmp_path, monkeypatch):
    """The real exporter and clock, for a moment: what they say on a busy machine is not asserted."""
    for context, name, value in [
        (onnx_timing, "MAX_SECONDS", 0.3), (onnx_timing, "MIN_SECONDS", 0.1), (protocol, "MIN_ROUNDS", 2),
        (control_networks, "stopwatch", stopwatch),
    ]:  # fmt: skip
        monkeypatch.setattr(context, name, value)
    lines = table(tiny.stage(CHANNELS, dense, tmp_path / "out", data, controls="fast", fit=NONE))
    assert list(lines) == ["dense", "pruned", "smaller input (8 px)"]
    assert lines["dense"]["p50 ratio"] == 1.0
    assert all(line["p50 ms"] > 0 for line in lines.values())


@pytest.mark.slow
def test_pruned_pretrained_weights_beat_weights_drawn_anew(clock, tmp_path):
    """Digits, 40 of each class at 16 px; three seeds measured, validation accuracy in %.

    Pruned 97.6, 97.8, 97.3; its shape from weights drawn anew, trained as long, 72.2, 67.3, 60.0.
    """
    data = DataSettings(source="digits", max_per_class=40, val_fraction=0.25)
    plain = {"batch": 32, "augment": {"crop": "padded", "flip": False}}
    fit = {"epochs": 3, "lr": 0.003}
    start = BackboneSettings(source="resnet20-cifar10", size=16)
    known = tiny.stage("finetune", start, tmp_path / "known", data, options=plain, fit=fit)
    told = {**HALF, "fit": fit, "options": plain, "controls": "full", "control_seeds": 1}
    lines = table(tiny.stage(CHANNELS, known, tmp_path / "half", data, **told))
    assert lines["pruned"]["accuracy val %"] > lines[NEW]["accuracy val %"] + 10
