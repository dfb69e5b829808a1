import pytest
import torch

from effxfer.errors import DataError
from effxfer.stages.train.qat import frozen_norms
from tests import tiny


def test_without_training_the_network_stays_and_rounding_is_measured(dense, data, tmp_path):
    made = tiny.stage("qat", dense, tmp_path / "a", data, bits=2, fit={**tiny.FIT, "epochs": 0})
    same = dense.net().state_dict()
    assert all(tensor.equal(same[name]) for name, tensor in made.net().state_dict().items())
    assert made.manifest.report["accuracy/val"].value == made.manifest.report["accuracy/val/before"].value


def test_the_result_is_an_ordinary_network(dense, data, tmp_path):
    made = tiny.stage("qat", dense, tmp_path / "a", data)
    report = made.manifest.report
    assert made.net().state_dict().keys() == dense.net().state_dict().keys()
    assert made.manifest.edits == dense.manifest.edits
    for name in ("accuracy/val", "accuracy/test"):
        assert report[f"{name}/before"].value == dense.manifest.report[name].value
        assert report.get(f"{name}/simulated") is not None
    exported = tiny.stage("export", made, tmp_path / "onnx", data, max_drop=100.0)
    assert exported.manifest.report["accuracy/val/fp32"].value == report["accuracy/val"].value


def test_zeros_of_a_ticket_stay(dense, data, tmp_path):
    ticket = tiny.stage("prune lottery", dense, tmp_path / "ticket", data, rounds=1)
    made = tiny.stage("qat", ticket, tmp_path / "qat", data).net()
    kept = made.masks()
    assert kept
    assert all((made.get_parameter(name)[~keep] == 0).all() for name, keep in kept.items())
    assert any((made.get_parameter(n) != p).any() for n, p in ticket.net().named_parameters())


@pytest.mark.parametrize(("norms", "moves"), [("frozen", False), ("moving", True)])
def test_norms_stay_or_move(dense, data, tmp_path, norms, moves):
    made = tiny.stage("qat", dense, tmp_path / "qat", data, norms=norms)
    before, after = dense.net(), made.net()
    names = [n for n in before.state_dict() if "running_mean" in n]
    changed = [not before.state_dict()[n].equal(after.state_dict()[n]) for n in names]
    assert all(changed) if moves else not any(changed)
    assert all(p.requires_grad for p in after.parameters())


def test_norms_are_thawed_as_they_were():
    norm = torch.nn.BatchNorm2d(3)
    norm.bias.requires_grad_(False)
    with frozen_norms(norm, "frozen"):
        assert not norm.weight.requires_grad
    assert norm.weight.requires_grad
    assert not norm.bias.requires_grad


def test_the_same_twice(dense, data, tmp_path):
    first, second = (tiny.stage("qat", dense, tmp_path / name, data).net().state_dict() for name in ("a", "b"))
    assert all(first[name].equal(second[name]) for name in first)


def test_other_classes_are_refused(dense, data, tmp_path):
    folder = tiny.write_images(tmp_path / "other")
    (folder / "red").rename(folder / "ruby")
    with pytest.raises(DataError, match="finetune it first"):
        tiny.stage("qat", dense, tmp_path / "out", tiny.data_of(folder))
