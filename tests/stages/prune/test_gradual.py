import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.stages.prune import gradual
from effxfer.stages.train.finetune import train
from tests import tiny

GRADUAL = "prune gradual"


@pytest.fixture(scope="module")
def made(tmp_path_factory, dense, data):
    return tiny.stage(GRADUAL, dense, tmp_path_factory.mktemp("gradual") / "made", data)


def test_ends_with_the_sparsity_that_was_asked_for(made):
    net = made.net()
    assert all(bool((net.get_parameter(n)[~keep] == 0).all()) for n, keep in net.masks().items())
    gone = sum(int((~keep).sum()) for keep in net.masks().values())
    total = sum(keep.numel() for keep in net.masks().values())
    assert gone == round(0.5 * total)
    assert made.manifest.report["sparsity/prunable"].value == pytest.approx(100 * gone / total)


def test_reports_how_the_weights_went(made):
    curve = next(c for c in made.manifest.report.curves if c.title == "Weights remaining")
    left = [y for _, y in curve.points]
    assert left == sorted(left, reverse=True)
    assert (left[0], left[-1]) == (100, 50)


@pytest.mark.parametrize("score", ["magnitude", "movement", "taylor"])
def test_goes_on_after_a_cut_bit_for_bit(dense, data, tmp_path, monkeypatch, score):
    more = {"score": score, "every": 1}
    whole = tiny.stage(GRADUAL, dense, tmp_path / "whole", data, **more)

    def cut_off(*args, after_step, **rest):
        def dying(done):
            after_step(done)
            if done == 6:
                raise KeyboardInterrupt

        return train(*args, after_step=dying, **rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(gradual, "train", cut_off)
        tiny.stage(GRADUAL, dense, tmp_path / "cut", data, **more)
    assert list((tmp_path / ".work-cut").rglob("checkpoint.pt"))
    resumed = tiny.stage(GRADUAL, dense, tmp_path / "cut", data, **more)
    ours, theirs = whole.net().state_dict(), resumed.net().state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_goes_on_from_a_ticket_and_leaves_layers_out(made, data, tmp_path):
    sparser = tiny.stage(GRADUAL, made, tmp_path / "out", data, sparsity=0.8, exclude=["body.stem.*"], scope="erk")
    before, after = made.net().masks(), sparser.net().masks()
    assert all(bool((after[name] <= keep).all()) for name, keep in before.items())
    assert torch.equal(after["body.stem.0.weight"], before["body.stem.0.weight"])


def test_a_strategy_that_does_not_train_the_body_is_refused(dense, data, tmp_path):
    with pytest.raises(SettingsError, match="'probe' does not train the weights"):
        tiny.stage(GRADUAL, dense, tmp_path / "out", data, strategy="probe", options={})


@pytest.mark.parametrize("wrong", [{"begin": 0.5, "end": 0.5}, {"fit": {"epochs": 0}}, {"sparsity": 1.0}, {"every": 0}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(SettingsError):
        tiny.settings_of(GRADUAL, **wrong)
