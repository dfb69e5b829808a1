"""What every strategy promises; a new one needs a line in `OPTIONS`."""

from math import log

import pytest
import torch

from effxfer.artifact import Artifact
from effxfer.net.net import Net
from effxfer.transfer import STRATEGIES
from effxfer.transfer.base import Strategy
from tests import tiny

OPTIONS = {
    "full": {"batch": 8, "augment": {"crop": "none", "flip": False}},
    "probe": {"batch": 8},
}
FIT = {"full": {"epochs": 4, "lr": 0.01}, "probe": {"epochs": 40, "lr": 0.03}}


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def made(tmp_path_factory, data, name) -> Artifact:
    return adapted(tmp_path_factory.mktemp(name) / "net", data, name)


def adapted(out, data, name, **fit):
    return tiny.finetune(out, data, strategy=name, options=OPTIONS[name], fit={**FIT[name], **fit})


def test_the_table_covers_all():
    assert OPTIONS.keys() == STRATEGIES.keys()


def test_is_its_settings_and_one_class_deep(name):
    assert STRATEGIES[name].__mro__[1] is Strategy
    assert STRATEGIES[name]().plain().keys() >= Strategy().plain().keys()
    assert STRATEGIES[name].__doc__


def test_learns(made, data, tmp_path, name):
    before = adapted(tmp_path / "none", data, name, epochs=0).manifest.report
    report = made.manifest.report
    assert report["accuracy/val"].value >= 75
    assert report["accuracy/val"].value > before["accuracy/val"].value
    (losses,) = [curve.points for curve in report.curves if curve.y == "loss"]
    assert losses[-1][1] < log(3), "better than guessing"


def test_repeats_bit_for_bit(made, data, tmp_path, name):
    again = adapted(tmp_path / "again", data, name)
    assert again.manifest.key == made.manifest.key
    assert again.manifest.files["weights.safetensors"] == made.manifest.files["weights.safetensors"]


def test_leaves_a_plain_network_that_rebuilds(made):
    net = made.net()
    assert type(net) is Net
    assert net.classes == tiny.CLASSES
    assert all(p.requires_grad for p in net.parameters()), "nothing stays frozen for the stages after it"
    with torch.inference_mode():
        assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_keeps_a_tickets_zeros(made, data, tmp_path, name):
    ticket = tiny.stage("prune lottery", made, tmp_path / "ticket", data, rounds=1, fit={"epochs": 0})
    again = tiny.stage("finetune", ticket, tmp_path / "on", data, strategy=name, options=OPTIONS[name], fit=FIT[name])
    net = again.net()
    assert net.kept()
    assert all(bool((net.get_parameter(n)[~keep] == 0).all()) for n, keep in net.kept().items())
