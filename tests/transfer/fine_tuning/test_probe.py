import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.transfer.fine_tuning.probe import Probe
from tests.transfer.tasks import adapt, task


def test_the_body_stays_bit_for_bit_while_the_head_learns():
    _, before, after, rows = adapt(Probe(batch=12), task(), epochs=10, lr=0.05)
    body = [name for name in before if name.startswith("body.")]
    assert body
    assert all(torch.equal(before[name], after[name]) for name in body), "statistics of BatchNorm included"
    assert all(not torch.equal(before[name], after[name]) for name in before if name.startswith("head."))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["score"] > 60


def test_features_are_computed_once_and_are_those_of_the_network():
    given, calls = task(), []
    net, *_ = adapt(Probe(batch=12), given, epochs=0)
    net.body.register_forward_hook(lambda *_: calls.append(1))
    epochs = Probe(batch=12).draw(net, [given], torch.device("cpu"))
    made = len(calls)
    features, labels = epochs(0)[0]
    epochs(1)[2]
    assert len(calls) == made
    with torch.inference_mode():
        everything = net.features(torch.from_numpy(given.train.rows).permute(0, 3, 1, 2) / 63.75 - 2)
    assert ((features[:, None] - everything).abs().amax(2).amin(1) < 1e-3).all()
    assert features.requires_grad is False
    assert labels.dtype is torch.int64


def test_all_weights_can_be_trained_afterwards():
    net, *_ = adapt(Probe(batch=12), task(), epochs=1)
    assert all(p.requires_grad for p in net.parameters())


def test_settings_without_effect_are_refused():
    with pytest.raises(SettingsError, match="augment has no effect on probe"):
        build(Probe, {"augment": {"mixup": 0.2}}, "options")
    assert build(Probe, {"batch": 8}, "options").batch == 8
