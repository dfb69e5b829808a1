import math

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from effxfer.errors import SettingsError
from effxfer.stages.prune import lottery
from effxfer.stages.train.finetune import train
from effxfer.train.state import Work
from tests import tiny

LOTTERY = "prune lottery"
LATE = {"fit": {**tiny.FIT, "epochs": 2, "schedule": "constant"}}


@pytest.fixture(scope="module")
def ticket(tmp_path_factory, dense, data):
    return tiny.stage(LOTTERY, dense, tmp_path_factory.mktemp("ticket") / "ticket", data)


def weights(artifact):
    return artifact.net().state_dict()


def same(one, other):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def removed(net):
    return {name: ~keep for name, keep in net.masks().items()}


def held(net):
    """Whether all removed weights are zero."""
    return all(bool((net.get_parameter(name)[gone] == 0).all()) for name, gone in removed(net).items())


def test_removes_exactly_the_share(ticket):
    net = ticket.net()
    gone, total = (sum(int(f(mask)) for mask in removed(net).values()) for f in (torch.sum, torch.numel))
    assert gone == round(0.5 * total)
    assert ticket.manifest.report["sparsity/prunable"].value == pytest.approx(100 * gone / total)
    assert ticket.manifest.report["sparsity/prunable"].n == total
    everything = sum(p.numel() for p in net.parameters())
    assert ticket.manifest.report["sparsity/all"].value == pytest.approx(100 * gone / everything)


def test_masks_are_stored_and_hold(ticket):
    net = ticket.net()
    assert net.masks()
    assert held(net)
    assert not any(name.startswith("head") for name in net.masks())


def test_reports_every_round(ticket):
    curve, of_all = ticket.manifest.report.curves
    left = [x for x, _ in curve.points]
    assert left[0] == 100
    assert left[1] == pytest.approx(100 * 0.5**0.5, abs=0.1)
    assert left[2] == pytest.approx(50, abs=0.01)
    assert of_all.points[2][0] == pytest.approx(100 - ticket.manifest.report["sparsity/all"].value)


@pytest.mark.slow
def test_zeros_survive_every_later_stage(ticket, data, tmp_path):
    small = tiny.stage("prune channels", ticket, tmp_path / "small", data)
    again = tiny.stage("finetune", small, tmp_path / "again", data)
    net = again.net()
    assert held(net)
    gone = sum(int(mask.sum()) for mask in removed(net).values())
    assert gone > 0
    exported = tiny.stage("export", again, tmp_path / "onnx", data, int8=False)
    graph = onnx.load(exported.path / "model.onnx").graph
    zeros = sum(int((numpy_helper.to_array(tensor) == 0).sum()) for tensor in graph.initializer)
    assert zeros >= gone
    assert exported.manifest.report["zeros"].value == pytest.approx(
        100 * gone / sum(p.numel() for p in net.parameters())
    )


def test_a_second_ticket_goes_on_from_the_first(ticket, data, tmp_path):
    sparser = tiny.stage(LOTTERY, ticket, tmp_path / "sparser", data, sparsity=0.8, rounds=1)
    before, after = removed(ticket.net()), removed(sparser.net())
    assert all(bool(after[name][gone].all()) for name, gone in before.items())
    assert sparser.manifest.report["sparsity/prunable"].value == pytest.approx(80, abs=0.01)


def test_repeats_bit_for_bit(ticket, dense, data, tmp_path):
    assert same(ticket, tiny.stage(LOTTERY, dense, tmp_path / "again", data))


def masks_of(net):
    return {name: keep.clone() for name, keep in net.masks().items()}


class Power:
    """Cuts a stage off when one of its rounds begins."""

    def __init__(self, monkeypatch, label):
        self.monkeypatch, self.label, self.seen = monkeypatch, label, []

    def __call__(self, *args, label, **more):
        self.seen.append(label)
        if label == self.label:
            raise KeyboardInterrupt
        return train(*args, label=label, **more)

    def __enter__(self):
        self.monkeypatch.setattr(lottery, "train", self)
        return self

    def __exit__(self, *_):
        self.monkeypatch.undo()


def test_goes_on_after_a_cut_bit_for_bit(ticket, dense, data, tmp_path, monkeypatch):
    with Power(monkeypatch, "ticket round 2 of 2"), pytest.raises(KeyboardInterrupt):
        tiny.stage(LOTTERY, dense, tmp_path / "cut", data)
    assert not (tmp_path / "cut").exists()
    with Power(monkeypatch, "") as power:
        resumed = tiny.stage(LOTTERY, dense, tmp_path / "cut", data)
    assert power.seen == ["ticket round 2 of 2"]
    assert same(resumed, ticket)
    assert resumed.manifest.report.curves == ticket.manifest.report.curves
    assert not list((tmp_path / ".work-cut").glob("key-*"))


def test_rewinds_to_a_step_of_training(dense, data, tmp_path, monkeypatch):
    starts = {}

    def watch(net, *args, span, label, **more):
        net.apply_masks_()
        starts[label] = (span, {n: p.detach().clone() for n, p in net.named_parameters()}, masks_of(net))
        history = train(net, *args, span=span, label=label, **more)
        if label.startswith("train to"):
            starts["rewind point"] = (span, {n: p.detach().clone() for n, p in net.named_parameters()}, {})
        return history

    monkeypatch.setattr(lottery, "train", watch)
    made = tiny.stage(LOTTERY, dense, tmp_path / "late", data, rewind=0.5, rounds=1, **LATE)
    length = math.ceil(36 / 8)
    step = starts["train to the rewind point"][0].last
    assert step == round(0.5 * step_count(data, dense))
    assert 0 < step < length
    _, point, _ = starts["rewind point"]
    for name, weight in dense.net().named_parameters():
        if name.endswith("conv1.weight"):
            assert not torch.equal(point[name], weight)
    for label in ("ticket round 0 of 1", "ticket round 1 of 1"):
        span, begin, masks = starts[label]
        assert span.first == step
        for name, weight in begin.items():
            assert torch.equal(weight, point[name] * masks.get(name, torch.ones(())))
    assert held(made.net())


def step_count(data, dense):
    from effxfer.stages.runner.context import RunContext
    from effxfer.stages.runner.tasks import load_task
    from effxfer.transfer.strategies import make_strategy

    net = dense.net()
    task = load_task(data, net.input, RunContext(out=dense.path))
    return len(make_strategy("full", tiny.PLAIN).draw(net, [task], torch.device("cpu"))(0))


def test_rewinding_to_zero_starts_from_the_pretrained_weights(dense, data, tmp_path, monkeypatch):
    starts = []

    def watch(net, *args, span, **more):
        net.apply_masks_()
        starts.append((span.first, {n: p.detach().clone() for n, p in net.named_parameters()}, masks_of(net)))
        return train(net, *args, span=span, **more)

    monkeypatch.setattr(lottery, "train", watch)
    tiny.stage(LOTTERY, dense, tmp_path / "out", data, rounds=1, fit={**tiny.FIT, "epochs": 1})
    given = dict(dense.net().named_parameters())
    for first, begin, masks in starts:
        assert first == 0
        for name, weight in begin.items():
            assert torch.equal(weight, given[name] * masks.get(name, torch.ones(())))


def followed(monkeypatch):
    """Note what every training begins and ends with."""
    seen = []

    def watch(net, tasks, strategy, fit, **more):
        net.apply_masks_()
        before = net.state_dict()
        seen.append({"fit": fit, "before": {n: t.clone() for n, t in before.items()}, "label": more["label"]})
        history = train(net, tasks, strategy, fit, **more)
        seen[-1]["after"] = {n: t.clone() for n, t in net.state_dict().items()}
        return history

    monkeypatch.setattr(lottery, "train", watch)
    return seen


@pytest.mark.parametrize("rewind", ["init", "none", "rate"])
def test_rounds_begin_where_the_setting_says(dense, data, tmp_path, monkeypatch, rewind):
    seen = followed(monkeypatch)
    tiny.stage(LOTTERY, dense, tmp_path / "out", data, rewind=rewind, fit={**tiny.FIT, "epochs": 1})
    assert [one["label"] for one in seen] == [f"ticket round {number} of 2" for number in range(3)]
    given = dense.net().state_dict()
    for number, one in enumerate(seen):
        masks = {n[5:].replace("/", "."): t for n, t in one["before"].items() if n.startswith("keep/")}
        from_before = seen[number - 1]["after"] if number else given
        expected = seen[0]["before"] if rewind == "init" else from_before
        for name, tensor in one["before"].items():
            if not name.startswith("keep/"):
                assert torch.equal(tensor, expected[name] * masks[name] if name in masks else expected[name])
    kernel = "body.stem.0.weight"
    assert torch.equal(seen[0]["before"][kernel], given[kernel]) == (rewind != "init")
    first, *later = [one["fit"] for one in seen]
    assert all((fit == first) == (rewind != "none") for fit in later)
    if rewind == "none":
        assert {(fit.schedule, fit.warmup) for fit in later} == {("constant", 0.0)}
        assert later[0].lr == pytest.approx(first.lr * (1 + math.cos(math.pi * 0.9)) / 2)


def test_fresh_weights_are_those_of_the_seed(dense, data, tmp_path, monkeypatch):
    seen = followed(monkeypatch)
    for seed in (0, 1, 1):
        more = {"rewind": "init", "rounds": 1, "seed": seed, "force": True, "fit": {**tiny.FIT, "epochs": 0}}
        tiny.stage(LOTTERY, dense, tmp_path / f"out-{len(seen)}", data, **more)
    kernels = [one["before"]["body.stem.0.weight"] for one in seen[::2]]
    assert torch.equal(kernels[1], kernels[2])
    assert not torch.equal(kernels[0], kernels[1])


@pytest.mark.parametrize("score", ["fisher", "movement", "random", "taylor"])
def test_every_score_finds_a_ticket_that_travels(dense, data, tmp_path, score):
    made = tiny.stage(LOTTERY, dense, tmp_path / "out", data, score=score, rounds=1, fit={**tiny.FIT, "epochs": 1})
    assert held(made.net())
    assert made.manifest.report["sparsity/prunable"].value == pytest.approx(50, abs=0.01)
    assert not [name for name in weights(made) if name.startswith("moved/")]


def test_movement_goes_on_after_a_cut_bit_for_bit(dense, data, tmp_path, monkeypatch):
    more = {"score": "movement", "scope": "erk", "fraction": 0.3, "sparsity": None, "fit": {**tiny.FIT, "epochs": 1}}
    whole = tiny.stage(LOTTERY, dense, tmp_path / "whole", data, **more)
    with Power(monkeypatch, "ticket round 1 of 2"), pytest.raises(KeyboardInterrupt):
        tiny.stage(LOTTERY, dense, tmp_path / "cut", data, **more)
    assert same(whole, tiny.stage(LOTTERY, dense, tmp_path / "cut", data, **more))
    assert whole.manifest.report["sparsity/prunable"].value == pytest.approx(51, abs=0.01)


def test_stops_when_too_much_is_lost(dense, data, tmp_path, monkeypatch):
    """Accuracy falls from round to round here, because it is counted, not measured."""
    numbers = iter([90, 89, 70, 60, 50])

    monkeypatch.setattr(lottery, "score", lambda *_: next(numbers))
    more = {"rounds": 4, "max_drop": 5.0, "fit": {**tiny.FIT, "epochs": 0}}
    made = tiny.stage(LOTTERY, dense, tmp_path / "out", data, **more)
    report = made.manifest.report
    assert report["rounds"].value == 1
    assert report["sparsity/prunable"].value == pytest.approx(100 * (1 - 0.5**0.25), abs=0.01)
    assert len(report.curves[0].points) == 3
    assert any("the ticket is that of the round before" in note for note in report.notes)


def test_settings_that_contradict_are_refused():
    for wrong in ({"fraction": 0.2}, {"sparsity": None}):
        with pytest.raises(SettingsError, match="either sparsity or fraction"):
            tiny.settings_of(LOTTERY, **wrong)
    for start in (-1.0, "ini", True, []):
        with pytest.raises(SettingsError, match="rewind: should be a number of epochs, at least 0, or one of init"):
            tiny.settings_of(LOTTERY, rewind=start)
    assert tiny.settings_of(LOTTERY, rewind=1).rewind == 1.0


def test_a_rewind_point_after_the_end_is_refused():
    with pytest.raises(SettingsError, match="rewind to an early epoch"):
        tiny.settings_of(LOTTERY, rewind=2.0)


def test_a_layer_can_be_left_out(dense, data, tmp_path):
    made = tiny.stage(
        LOTTERY, dense, tmp_path / "out", data, exclude=["body.stem.*"], rounds=1, fit={**tiny.FIT, "epochs": 0}
    )
    stem = made.net().get_parameter("body.stem.0.weight")
    assert torch.equal(stem, dense.net().get_parameter("body.stem.0.weight"))
    assert np.count_nonzero(stem.detach().numpy()) == stem.numel()


def test_without_a_directory_nothing_is_kept():
    assert Work(None).once("unit", lambda: {"x": 1}) == {"x": 1}
