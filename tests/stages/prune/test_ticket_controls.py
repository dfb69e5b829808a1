import pytest
import torch

from effxfer.stages.prune import gradual, lottery
from effxfer.stages.train.finetune import train
from tests import tiny

NONE = {**tiny.FIT, "epochs": 0}
ONE = {**tiny.FIT, "epochs": 1}


class Followed:
    """Notes what is trained; cuts the stage off when a training of the given label begins."""

    def __init__(self, monkeypatch, module, cut=""):
        self.seen, self.cut = [], cut
        monkeypatch.setattr(module, "train", self)

    def __call__(self, net, tasks, strategy, fit, *, label="train", seed, span=None, **more):
        if label == self.cut:
            raise KeyboardInterrupt
        self.seen.append((label, seed, fit.epochs, span and span.first))
        return train(net, tasks, strategy, fit, label=label, seed=seed, **({"span": span} if span else {}), **more)

    def of(self, kind):
        return [one for one in self.seen if kind in one[0]]


def test_none_trains_none_and_fast_trains_two(dense, data, tmp_path, monkeypatch):
    follow = Followed(monkeypatch, lottery)
    plain = tiny.stage("prune lottery", dense, tmp_path / "plain", data, fit=NONE)
    assert not follow.of("control")
    assert len(plain.manifest.report.tables) == 1
    fast = tiny.stage("prune lottery", dense, tmp_path / "fast", data, fit=NONE, controls="fast")
    assert [one[0] for one in follow.of("control")] == ["control random 1", "control one-shot 1"]
    assert [row["network"] for row in fast.manifest.report.tables[1].rows] == ["ticket", "random mask", "one-shot mask"]
    ours, theirs = (made.net().state_dict() for made in (plain, fast))
    assert all(torch.equal(t, theirs[n]) for n, t in ours.items()), "controls leave the ticket as it is"


def test_full_trains_all_as_often_as_asked(dense, data, tmp_path, monkeypatch):
    follow = Followed(monkeypatch, lottery)
    more = {"controls": "full", "control_seeds": 2, "fit": ONE, "rewind": 0.4}
    made = tiny.stage("prune lottery", dense, tmp_path / "full", data, **more)
    rounds = follow.of("ticket round")
    for kind in ("random", "re-initialised", "one-shot", "dense"):
        runs = follow.of(f"control {kind}")
        assert len(runs) == 2
        assert runs[0][1] == rounds[0][1] != runs[1][1], "the first repeat sees the ticket's batches"
        assert all(run[2:] == rounds[-1][2:] for run in runs), "as many steps, from the same one on"
    report = made.manifest.report
    assert report["random mask accuracy/val"].n == 2
    assert report["dense, trained as long accuracy/test"].n == 2
    assert [row["n"] for row in report.tables[1].rows] == [1, 2, 2, 2, 2]
    assert report.tables[1].title.endswith("each trained for 1 epoch")


def test_trainings_that_may_end_early_are_told_so(dense, data, tmp_path):
    fit = {**ONE, "patience": 3}
    made = tiny.stage("prune lottery", dense, tmp_path / "fast", data, fit=fit, rewind=0.4, controls="fast")
    assert made.manifest.report.tables[1].title.endswith("each trained for up to 1 epoch")


@pytest.mark.parametrize(("kind", "trainings"), [("random", 2), ("re-initialised", 3), ("dense", 2)])
def test_where_weights_go_on_controls_are_trained_through_as_many_rounds(
    dense, data, tmp_path, monkeypatch, kind, trainings
):
    follow = Followed(monkeypatch, lottery)
    more = {"controls": "full", "control_seeds": 1, "fit": NONE, "rewind": "rate"}
    tiny.stage("prune lottery", dense, tmp_path / "out", data, **more)
    assert len(follow.of(f"control {kind}")) == trainings


def test_a_ticket_that_was_pruned_once_is_its_own_one_shot_control(dense, data, tmp_path, monkeypatch):
    follow = Followed(monkeypatch, lottery)
    tiny.stage("prune lottery", dense, tmp_path / "out", data, rounds=1, controls="fast", fit=NONE)
    assert [one[0] for one in follow.of("control")] == ["control random 1"]


def test_go_on_after_a_cut(dense, data, tmp_path, monkeypatch):
    more = {"controls": "fast", "fit": ONE, "score": "movement"}
    whole = tiny.stage("prune lottery", dense, tmp_path / "whole", data, **more)
    Followed(monkeypatch, lottery, cut="control one-shot 1")
    with pytest.raises(KeyboardInterrupt):
        tiny.stage("prune lottery", dense, tmp_path / "cut", data, **more)
    follow = Followed(monkeypatch, lottery)
    resumed = tiny.stage("prune lottery", dense, tmp_path / "cut", data, **more)
    assert [one[0] for one in follow.seen] == ["control one-shot 1"]
    assert resumed.manifest.report == whole.manifest.report
    assert resumed.manifest.files["weights.safetensors"] == whole.manifest.files["weights.safetensors"]


def test_a_gradual_ticket_has_them_too(dense, data, tmp_path, monkeypatch):
    follow = Followed(monkeypatch, gradual)
    more = {"controls": "full", "control_seeds": 1, "fit": ONE, "score": "movement"}
    made = tiny.stage("prune gradual", dense, tmp_path / "out", data, **more)
    assert len(follow.of("control")) == 4
    assert all(one[2] == 1 for one in follow.seen)
    left = [row["weights %"] for row in made.manifest.report.tables[1].rows]
    assert left == pytest.approx([50, 50, 50, 50, 100], abs=0.1)
